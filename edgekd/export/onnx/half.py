"""float16 inside, float32 at the inputs and outputs: clients run unchanged.

Weights and arithmetic are float16 except for
 * normalisations and softmax, which sum many squares or exponentials,
 * the sinusoids of the time embedding: float16 has steps of 0.5 at timestep 999,
 * nodes that read or gave a value beyond a quarter of float16's range on the recorded inputs.

onnxruntime's CPU kernels compute most of it in float32 again, so parity there does not show an
overflow; that is what the recorded values are for.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from edgekd.export.onnx.graph import load_typed
from edgekd.export.onnx.ranges import largest_values
from edgekd.export.record import Recording

FLOAT32_OPERATORS = ("InstanceNormalization", "LayerNormalization", "Softmax", "Sin", "Cos")
# float16 ends at 65504; other prompts may reach beyond what the recordings show.
LARGEST = 65504 / 4


def to_half(
    source: Path, recordings: list[Recording], scratch: Path
) -> tuple[ModelProto, dict[str, Any]]:
    """Convert a float32 model file to float16.

    Args:
        recordings: real inputs; their inner values decide what stays float32.
        scratch: folder for temporary files.

    Returns:
        The model, and facts for the manifest.
    """
    from onnxruntime.transformers import float16

    logging.getLogger(float16.__name__).setLevel(logging.ERROR)
    largest = largest_values(source, recordings, scratch, torch.get_num_threads())
    # Written so that NaN is wide.
    wide = {name for name, value in largest.items() if not value <= LARGEST}
    model = load_typed(source, weights=False)
    # In the converter's hands they would be in memory in both types.
    taken = _take_out(model)
    kept = {
        node.name for node in model.graph.node if wide.intersection([*node.input, *node.output])
    }
    half = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *FLOAT32_OPERATORS],
        node_block_list=sorted(kept | _before_sinusoids(model)),
    )
    _join_float32_nodes(half)
    for tensor in half.graph.initializer:
        if tensor.name in taken:
            _put_back(tensor, taken[tensor.name], source.parent)
    del half.graph.value_info[:]
    return half, {
        "method": "float16 weights and arithmetic, float32 normalisations, softmax and sinusoids",
        "activations": "fp16",
        "largest_value": max(largest.values(), default=0.0),
        "nodes_beyond_range": len(kept),
    }


def _take_out(model: ModelProto) -> dict[str, TensorProto]:
    """Leave weights that are in a file of their own without values; returns where they are."""
    taken = {}
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            taken[tensor.name] = TensorProto()
            taken[tensor.name].CopyFrom(tensor)
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.dims[:] = [0]  # the converter looks at values, and there are none
    return taken


def _put_back(tensor: TensorProto, stored: TensorProto, folder: Path) -> None:
    """Give a weight its values again, in the type that the converter has given it."""
    from onnxruntime.transformers.float16 import convert_np_to_float16

    values = numpy_helper.to_array(stored, str(folder))
    if tensor.data_type == TensorProto.FLOAT16:
        values = convert_np_to_float16(values)
    tensor.dims[:] = stored.dims
    tensor.raw_data = values.tobytes()


def _before_sinusoids(model: ModelProto) -> set[str]:
    """Names of the nodes that compute the angles of the time embedding."""
    producers = {name: node for node in model.graph.node for name in node.output}
    waiting = [node for node in model.graph.node if node.op_type in ("Sin", "Cos")]
    names: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node.name not in names:
            names.add(node.name)
            waiting += [producers[name] for name in node.input if name in producers]
    return names


# Names of the casts to float16 behind float32 nodes and inputs, as older and newer versions of the
# converter make them.
_TO_HALF = re.compile(r"_output_cast\d+$|_cast_to_fp16_node$|^graph_input_cast\d+$")


def _join_float32_nodes(model: ModelProto) -> None:
    """Let float32 nodes hand their values to each other directly.

    The converter casts every result of a float32 node to float16, and back where the next node is
    float32 too: a value that is too large, or a timestep, would not survive it.
    """
    nodes = model.graph.node
    originals = {node.output[0]: node.input[0] for node in nodes if _TO_HALF.search(node.name)}
    direct = {
        node.output[0]: originals[node.input[0]]
        for node in nodes
        if node.op_type == "Cast"
        and node.input[0] in originals
        and any(item.name == "to" and item.i == TensorProto.FLOAT for item in node.attribute)
    }
    results = {item.name for item in model.graph.output}
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = direct.get(name, name)
    used = {name for node in nodes for name in node.input} | results
    kept = [node for node in nodes if node.op_type != "Cast" or not used.isdisjoint(node.output)]
    used = {name for node in kept for name in node.input} | results
    kept = [node for node in kept if node.op_type != "Cast" or not used.isdisjoint(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
