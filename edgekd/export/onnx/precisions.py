"""The precisions of the ONNX exporter: how each part is made, and what it has to reach.

Measured on the starter teacher (guidance 4, a processor with AVX-512 VNNI): bytes of all parts,
worst SNR of the U-Net in 32 calls (four prompts, 8 steps), worst PSNR of these four pictures over
two runs, one of them with all other parts in torch (ort: one run); in brackets the worst of two
pictures of 25 steps, with all other parts in torch. fp16 was measured before its float32 nodes
were joined.

| precision    | MB   | U-Net dB | pictures dB |
|--------------|------|----------|-------------|
| fp32         | 66.9 | 115      | 116 (107)   |
| fp16         | 33.9 | 54       | 50 (51)     |
| int8         | 17.7 | 32       | 41 (31)     |
| int8-dynamic | 19.7 | 39       | 41 (35)     |
| int8-static  | 20.0 | 32       | 27 (28)     |
| int8-mixed   | 19.8 | 31       | 28 (36)     |
| int8-matmul  | 20.2 | 41       | 43 (30)     |
| int4-matmul  | 18.9 | 32       | 32 (26)     |
| ort-fp32     | 67.4 | 115      | 117         |
| ort-int8     | 29.1 | 32       | 28          |

On a student of the starter teacher (default recipe), three sets of two prompts and their own noise,
calibrated on the first set: worst SNR of the U-Net in 48 calls and median of a set, worst of six
pictures.

| precision    | U-Net dB | median | pictures dB |
|--------------|----------|--------|-------------|
| fp16         | 55       | 68     | 61          |
| int8         | 35       | 50     | 44          |
| int8-dynamic | 38       | 52     | 38          |
| int8-static  | 31       | 47     | 35          |
| int8-mixed   | 31       | 46     | 36          |
| int8-matmul  | 44       | 57     | 45          |
| int4-matmul  | 30       | 44     | 33          |
| ort-int8     | 31       | 46     | 35          |

Among integer variants that differ by one or two dB in the U-Net, the worst picture varies by 10 dB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from edgekd.export.onnx.half import to_half
from edgekd.export.onnx.int8 import quantize_arithmetic
from edgekd.export.onnx.int8_weights import quantize_weights
from edgekd.export.onnx.matmul import quantize_matmul_weights
from edgekd.export.protocol import Floor, Floors
from edgekd.export.record import Recording

# Float32 model file, recorded inputs, folder for scratch -> model, facts for the manifest.
Method = Callable[[Path, list[Recording], Path], tuple[ModelProto, dict[str, Any]]]


def int8_weights(
    source: Path, recordings: list[Recording], scratch: Path
) -> tuple[ModelProto, dict[str, Any]]:
    model = onnx.load(source)
    return model, quantize_weights(model)


def _integer(**options: bool) -> Method:
    return lambda source, recordings, scratch: quantize_arithmetic(
        source, recordings, scratch, **options
    )


def _blocks(bits: int) -> Method:
    return lambda source, recordings, scratch: quantize_matmul_weights(source, bits)


@dataclass(frozen=True)
class OnnxPrecision:
    """One precision.

    Attributes:
        unet, other: how the U-Net and the other parts are made from their float32 form; None: they
            are it.
        ort_format: written as `model.ort`.
    """

    floors: Floors
    unet: Method | None = None
    other: Method | None = None
    ort_format: bool = False

    def method(self, component: str) -> Method | None:
        return self.unet if component == "unet" else self.other


_SAME_PICTURE = Floor(50.0, "the error stays below one grey level of 255, which is 48 dB")
_SIMILAR_PICTURE = Floor(
    20.0, "below it the same noise and prompt give a visibly different picture"
)
_FLOAT32 = Floor(80.0, "float32 sums in another order keep 110 dB and more")
_HALF = Floor(40.0, "float16 rounds at 2^-11 and the starter's parts keep 54 dB and more")
_HALF_PICTURE = Floor(40.0, "2.5 grey levels of 255; the starter's pictures keep 50 dB and more")
_EIGHT_BITS = Floor(
    30.0,
    "white noise 30 dB below every noise prediction leaves pictures of 24 to 32 dB PSNR, "
    "25 dB leaves other pictures; rounding weights to 8 bits keeps 38 dB and more",
)
# Of U-Nets: the worst call is the last step's, whose prediction is the smallest and enters the
# picture with a weight of 0.03; the median call is 13 to 15 dB above it. Measured on the starter
# teacher and on a student of it, on three sets of prompts and noise. Damage is of that student in
# float32: 18 layers spread over it, one at a time.
_INTEGERS = Floor(
    26.0,
    "31 dB are kept on every prompt and seed tried; one layer negated leaves less in 16 of 18 "
    "layers, its output channels shifted by one in 15, what is left are queries of "
    "cross-attention",
)
_FOUR_BITS = Floor(
    24.0, "29.8 dB are kept on every prompt and seed tried; damaged layers leave less, as above"
)

_FLOAT32_FLOORS = Floors(_FLOAT32, _SAME_PICTURE)
_HALF_FLOORS = Floors(_HALF, _HALF_PICTURE)
_WEIGHT_FLOORS = Floors(_EIGHT_BITS, _SIMILAR_PICTURE)
_INTEGER_FLOORS = Floors(_EIGHT_BITS, _SIMILAR_PICTURE, {"unet": _INTEGERS})
_FOUR_BIT_FLOORS = Floors(_EIGHT_BITS, _SIMILAR_PICTURE, {"unet": _FOUR_BITS})

PRECISIONS = {
    "fp32": OnnxPrecision(_FLOAT32_FLOORS),
    "fp16": OnnxPrecision(_HALF_FLOORS, to_half, to_half),
    "int8": OnnxPrecision(_INTEGER_FLOORS, int8_weights, int8_weights),
    "int8-dynamic": OnnxPrecision(_WEIGHT_FLOORS, _integer(dynamic=True), int8_weights),
    "int8-static": OnnxPrecision(_INTEGER_FLOORS, _integer(static=True), int8_weights),
    "int8-mixed": OnnxPrecision(_INTEGER_FLOORS, _integer(static=True, dynamic=True), int8_weights),
    "int8-matmul": OnnxPrecision(_WEIGHT_FLOORS, _blocks(8), int8_weights),
    "int4-matmul": OnnxPrecision(_FOUR_BIT_FLOORS, _blocks(4), int8_weights),
    "ort-fp32": OnnxPrecision(_FLOAT32_FLOORS, ort_format=True),
    "ort-int8": OnnxPrecision(
        _INTEGER_FLOORS,
        # Constants are folded when this file is made: weights stored for later would come out
        # as float32 again.
        _integer(static=True, dynamic=True, weights=False),
        _integer(dynamic=True, weights=False),
        ort_format=True,
    ),
}
