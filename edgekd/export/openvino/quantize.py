"""Fewer bits in an OpenVINO model, by nncf.

`int8` and `int4` store weights alone in fewer bits; `int8_full` computes matrix products and
convolutions of the U-Net and the VAE's decoder in 8-bit integers; `hybrid` stores the weights of
the U-Net's matrix products in 8 bits and computes everything else of it (convolutions, products
of activations) in 8-bit integers. The parts around the U-Net have 8-bit weights in `hybrid`.

Ranges of activations are measured on the recordings: what the parts hand to each other along real
denoising trajectories, at every noise level. (Without the last step among them, its SNR is 2 dB.)

Measured on the starter teacher's U-Net, calibrated on two prompts, SNR in dB on four others (8 and
25 steps, guidance 4, 49 calls; worst call / median of the 8-step calls):

| variant                                          | MB   | f32         | bf16        |
|--------------------------------------------------|------|-------------|-------------|
| fp32                                             | 51.0 | 109 / 126   | 26.4 / 46.6 |
| fp16 weights                                     | 25.5 | 72.3 / 82.3 | 26.6 / 46.6 |
| int8 weights, all                                | 13.0 | 26.2 / 44.6 | 23.6 / 42.3 |
| `int8`: but the first and the last convolution   | 13.0 | 26.9 / 46.7 | 23.5 / 43.7 |
| int4 weights, all, symmetric                     | 11.2 | 16.0 / 35.4 | 15.6 / 34.8 |
| `int4`: asymmetric, but both convolutions        | 11.6 | 16.5 / 36.4 | 16.0 / 36.1 |
| the same, nncf's scale estimation                | 11.6 | 16.3 / 36.5 | 15.9 / 36.2 |
| `int8_full`                                      | 15.0 | 14.7 / 38.5 | 14.7 / 37.9 |
| the same with smoothing and bias correction      | 15.1 | 15.2 / 36.7 |             |
| `hybrid` (measured with bias correction)         | 13.0 | 16.6 / 39.1 | 16.5 / 38.3 |

int8 and int4 weights were measured there while OpenVINO still rounded the inputs of their products.
Without that, on three sets of two prompts and their own noise (8 steps, calibrated on the first;
worst U-Net call / least median of a set; worst of six pictures, which are drawn in bf16):

| pipeline, variant    | f32         | bf16        | pictures |
|----------------------|-------------|-------------|----------|
| teacher, `int8`      | 33.0 / 49.9 | 26.5 / 43.7 | 34       |
| teacher, `int4`      | 19.7 / 36.7 | 18.7 / 36.1 | 28       |
| teacher, `int8_full` | 17.1 / 39.2 | 16.7 / 38.6 | 32       |
| teacher, `hybrid`    | 20.6 / 39.8 | 20.1 / 39.2 | 32       |
| student, `fp16`      | 59.7 / 71.7 | 31.1 / 46.4 | 38       |
| student, `int8`      | 34.5 / 50.0 | 28.5 / 43.1 | 35       |
| student, `int4`      | 22.1 / 36.3 | 21.6 / 35.5 | 26       |
| student, `int8_full` | 17.7 / 38.1 | 17.5 / 37.6 | 28       |
| student, `hybrid`    | 19.5 / 38.9 | 19.2 / 38.2 | 29       |

The same of a student of the starter's second teacher, three sets of two prompts on one noise (bf16:
the worst call alone):

| pipeline, variant    | f32         | bf16        | pictures |
|----------------------|-------------|-------------|----------|
| student, `int8_full` | 13.8 / 37.4 | 13.6        | 30       |
| student, `hybrid`    | 13.9 / 39.1 | 14.0        | 36       |

All that had integer weights of 8 bits. On an x86 processor without VNNI sums of two products then
saturate: the decoder of `int8_full` kept 20.8 dB on the starter and 8.6 dB with random weights.
With 7 bits (nncf's overflow fix) they cannot, and every processor computes the same. On such a
processor (AVX2), the starter's third teacher and a student of it, two prompts, 25 steps (f32, worst
call):

| pipeline, variant    | U-Net | decoder | pictures |
|----------------------|-------|---------|----------|
| teacher, `int8_full` | 11.5  | 35.9    | 32       |
| teacher, `hybrid`    | 12.7  | 50.6    | 37       |
| student, `int8_full` | 13.8  | 37.6    | 35       |
| student, `hybrid`    | 14.6  | 49.6    | 37       |

The worst call is always the last step (timestep 1), whose prediction enters the picture with a
weight of 0.03; bf16 measured 40 dB and more on every other call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekd.export.openvino.graph import TIMESTEP
from edgekd.export.openvino.libraries import nncf, quiet
from edgekd.export.record import Arrays, Recording

# The first and the last convolution stay in floating point: 0.1 % of the size is 2 dB.
KEEP_FLOAT = ("conv_in", "conv_out", "quant_conv")
# The time embedding and its projections: almost no work, and each step is another input.
KEEP_FLOAT_ACTIVATIONS = (*KEEP_FLOAT, "time_embedding", "add_embedding", "time_emb_proj")
INT4_GROUP_SIZE = 64
# Every noise level of a trajectory is there, and a large model's statistics stay in memory.
CALIBRATION_CALLS = 16
INTEGER_PARTS = {"int8_full": ("unet", "vae_decoder"), "hybrid": ("unet",)}


def quantize(
    model: Any, component: str, precision: str, recordings: list[Recording]
) -> tuple[Any, dict[str, Any]]:
    """Quantize one part as `precision` says.

    Args:
        model: as it is saved, with a whole-numbered timestep; may be changed in place.
        precision: `int8`, `int4`, `int8_full` or `hybrid`.
        recordings: real calls of the part, for calibration.

    Returns:
        The quantized model, and facts for the manifest.
    """
    with quiet():
        if component not in INTEGER_PARTS.get(precision, ()):
            return _compress(model, 4 if precision == "int4" and component == "unet" else 8)
        if precision == "hybrid":
            return _hybrid(model, recordings)
        return _full(model, component, recordings)


def _scope(model: Any, parts: Iterable[str], **more: Any) -> Any:
    """Layers to leave alone: all whose name has one of these parts between slashes or dots."""
    patterns = [rf".*\b{part}[./].*" for part in parts]
    return nncf.IgnoredScope(patterns=patterns, validate=False, **more)


def _compress(model: Any, bits: int) -> tuple[Any, dict[str, Any]]:
    mode = nncf.CompressWeightsMode
    keep = _scope(model, KEEP_FLOAT)
    if bits == 8:
        model = nncf.compress_weights(model, mode=mode.INT8_SYM, ignored_scope=keep)
        return model, {"method": "int8 weights, symmetric per output channel", "activations": "fp"}
    advanced = nncf.AdvancedCompressionParameters(
        group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=16
    )
    model = nncf.compress_weights(
        model,
        mode=mode.INT4_ASYM,
        group_size=INT4_GROUP_SIZE,
        ignored_scope=keep,
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


def _full(model: Any, component: str, recordings: list[Recording]) -> tuple[Any, dict[str, Any]]:
    dataset, calls = _dataset(recordings)
    model = nncf.quantize(
        model,
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=calls,
        ignored_scope=_scope(model, KEEP_FLOAT_ACTIVATIONS),
        advanced_parameters=_plain_ranges(),
    )
    return model, {
        "method": "int8 weights and activations",
        "activations": "int8",
        "kept_float": list(KEEP_FLOAT_ACTIVATIONS),
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


def _hybrid(model: Any, recordings: list[Recording]) -> tuple[Any, dict[str, Any]]:
    dataset, calls = _dataset(recordings)
    products = weighted_products(model)
    model = nncf.compress_weights(
        model,
        mode=nncf.CompressWeightsMode.INT8_SYM,
        ignored_scope=_scope(model, (), types=["Convolution"]),
    )
    model = nncf.quantize(
        model,
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=calls,
        ignored_scope=_scope(model, KEEP_FLOAT, names=products),
        advanced_parameters=_plain_ranges(),
    )
    return model, {
        "method": "int8 weights in matrix products; int8 weights and activations elsewhere",
        "activations": "int8 outside of matrix products with weights",
        "kept_float": list(KEEP_FLOAT),
        "calibration_calls": calls,
    }


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
