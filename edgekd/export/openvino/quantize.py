"""Fewer bits in an OpenVINO model, by nncf.

`int8_weights` and `int4_weights` store weights alone in fewer bits; `integers` computes matrix
products and convolutions in 8-bit integers; `hybrid` stores the weights of matrix products in 8
bits and computes everything else (convolutions, products of activations) in 8-bit integers.

Ranges of activations are measured on the recordings: what the parts hand to each other along real
denoising trajectories, at every noise level. (Without the last step among them, its SNR is 2 dB.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekd.export.openvino.graph import TIMESTEP
from edgekd.export.openvino.libraries import nncf
from edgekd.export.protocol import Facts
from edgekd.export.record import Arrays, Recording

# The first and the last convolution stay in floating point: 0.1 % of the size is 2 dB.
KEEP_FLOAT = ("conv_in", "conv_out", "quant_conv")
# The time embedding and its projections: almost no work, and each step is another input.
KEEP_FLOAT_ACTIVATIONS = (*KEEP_FLOAT, "time_embedding", "add_embedding", "time_emb_proj")
INT4_GROUP_SIZE = 64
# Every noise level of a trajectory is there, and a large model's statistics stay in memory.
CALIBRATION_CALLS = 16


def _scope(model: Any, parts: Iterable[str], **more: Any) -> Any:
    """Layers to leave alone: all whose name has one of these parts between slashes or dots."""
    patterns = [rf".*\b{part}[./].*" for part in parts]
    return nncf.IgnoredScope(patterns=patterns, validate=False, **more)


def int8_weights(model: Any, recordings: list[Recording]) -> tuple[Any, Facts]:
    """The weights of all layers but the first and the last in 8 bits."""
    del recordings  # nothing to calibrate
    model = nncf.compress_weights(
        model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=_scope(model, KEEP_FLOAT)
    )
    return model, {"method": "int8 weights, symmetric per output channel", "activations": "fp"}


def int4_weights(model: Any, recordings: list[Recording]) -> tuple[Any, Facts]:
    """The weights of matrix products in 4 bits, those of other layers in 8."""
    del recordings
    advanced = nncf.AdvancedCompressionParameters(
        group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=16
    )
    model = nncf.compress_weights(
        model,
        mode=nncf.CompressWeightsMode.INT4_ASYM,
        group_size=INT4_GROUP_SIZE,
        ignored_scope=_scope(model, KEEP_FLOAT),
        advanced_parameters=advanced,
    )
    method = f"int4 weights of matrix products in groups of {INT4_GROUP_SIZE}, int8 elsewhere"
    return model, {"method": method, "activations": "fp"}


def _dataset(recordings: list[Recording]) -> tuple[Any, int]:
    """Calls spread evenly over the recordings."""
    count = min(len(recordings), CALIBRATION_CALLS)
    chosen = np.linspace(0, len(recordings) - 1, count).round().astype(int)
    return nncf.Dataset([feed(recordings[index].inputs) for index in chosen]), count


def feed(inputs: Arrays) -> Arrays:
    """Arrays in the shapes and types of a saved model's inputs."""
    return {
        name: np.reshape(np.rint(value), 1).astype(np.int64) if name == TIMESTEP else value
        for name, value in inputs.items()
    }


def integers(model: Any, recordings: list[Recording]) -> tuple[Any, Facts]:
    """Matrix products and convolutions in 8-bit integers."""
    return _integers(
        model,
        recordings,
        "int8 weights and activations",
        "int8",
        KEEP_FLOAT_ACTIVATIONS,
    )


def hybrid(model: Any, recordings: list[Recording]) -> tuple[Any, Facts]:
    """Products with stored weights in floating point on 8-bit weights, the rest in integers."""
    products = weighted_products(model)
    model = nncf.compress_weights(
        model,
        mode=nncf.CompressWeightsMode.INT8_SYM,
        ignored_scope=_scope(model, (), types=["Convolution"]),
    )
    return _integers(
        model,
        recordings,
        "int8 weights in matrix products; int8 weights and activations elsewhere",
        "int8 outside of matrix products with weights",
        KEEP_FLOAT,
        names=products,
    )


def _integers(
    model: Any,
    recordings: list[Recording],
    method: str,
    activations: str,
    kept: tuple[str, ...],
    **more: Any,
) -> tuple[Any, Facts]:
    dataset, calls = _dataset(recordings)
    model = nncf.quantize(
        model,
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=calls,
        ignored_scope=_scope(model, kept, **more),
        advanced_parameters=_plain_ranges(),
    )
    return model, {
        "method": method,
        "activations": activations,
        "kept_float": list(kept),
        "calibration_calls": calls,
    }


def _plain_ranges() -> Any:
    """No smoothing and no bias correction: they cost 2 dB here and more than twice the time."""
    return nncf.AdvancedQuantizationParameters(
        smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1),
        disable_bias_correction=True,
        # Weights of 7 bits: with 8, sums of two products saturate on x86 processors without VNNI.
        overflow_fix=nncf.quantization.advanced_parameters.OverflowFix.ENABLE,
    )


def weighted_products(model: Any) -> list[str]:
    """Names of the matrix products that multiply by a stored weight, and of embedding tables."""
    names = []
    for node in model.get_ordered_ops():
        positions = {"MatMul": (0, 1), "Gather": (0,)}.get(node.get_type_name(), ())
        if any(_is_weight(node.input_value(position).get_node()) for position in positions):
            names.append(node.get_friendly_name())
    return names


def _is_weight(node: Any) -> bool:
    """A floating-point constant, perhaps stored in fewer bits and converted."""
    while node.get_type_name() in ("Convert", "Reshape", "FakeQuantize"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant" and node.get_element_type().is_real())
