"""Matrix products with weights in blocks of 4 or 8 bits: `com.microsoft.MatMulNBits`.

The weights stay small in memory too: they are restored block by block while they are used (blocks
of 32 along the inputs; where these do not divide, the last block is padded). All other weights are
stored in 8 bits and restored when a session loads.

Measured as in `edgekd.export.onnx.int8` (starter teacher's U-Net):

| U-Net                                              | MB   | SNR dB | latency |
|----------------------------------------------------|------|--------|---------|
| 4 bits                                             | 41.6 | 20/38  | 1.00    |
| 4 bits, products on 8-bit inputs (accuracy level 4)| 41.6 | 20/38  | 1.16    |
| 4 bits, finest stage 8 bits                        | 41.8 | 32/48  | 1.02    |
| 8 bits                                             | 43.0 | 45/63  | 1.16    |
| 8 bits, products on 8-bit inputs                   | 43.1 | 36/55  | 1.10    |

So the finest stage, which holds a sixth of these weights here, has 8 bits in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from edgekd.export.onnx.int8 import finest_stage, int8_recipe, quiet_tools
from edgekd.export.onnx.int8_weights import quantize_weights

BLOCK = 32


def quantize_matmul_weights(source: Path, bits: int) -> tuple[ModelProto, dict[str, Any]]:
    """Store the weights of a float32 U-Net file's matrix products in blocks of `bits` bits.

    Returns:
        The model, and facts for the manifest.
    """
    model = onnx.load(source)
    stages = finest_stage(model)
    fine = [
        node.name for node in model.graph.node if any(f"/{stage}/" in node.name for stage in stages)
    ]
    if bits < 8:
        model = _in_blocks(model, bits, fine)
    model = _in_blocks(model, 8, [])
    weights = quantize_weights(model, int8_recipe(stages))
    found = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    return model, {
        "method": "MatMul weights in blocks; other weights int8, restored when loading",
        "bits": bits,
        "block": BLOCK,
        "products": len(found),
        "products_at_8_bits": sum(
            item.i == 8 for node in found for item in node.attribute if item.name == "bits"
        ),
        "activations": "fp32",
        "weights": weights,
    }


def _in_blocks(model: ModelProto, bits: int, excluded: list[str]) -> ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, bits=bits, is_symmetric=False, op_types_to_quantize=("MatMul",)
    )
    with quiet_tools():
        quantizer = MatMulNBitsQuantizer(model, algo_config=config, nodes_to_exclude=excluded)
        quantizer.process()
    result: ModelProto = quantizer.model.model
    return result
