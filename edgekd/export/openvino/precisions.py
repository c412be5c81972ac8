"""The precisions of the OpenVINO exporter: how each part is made, and what it has to reach.

`int8_full` computes the U-Net and the VAE's decoder in 8-bit integers, `hybrid` the U-Net but its
products with stored weights; the parts around them have 8-bit weights.

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekd.export.openvino.quantize import hybrid, int4_weights, int8_weights, integers
from edgekd.export.protocol import Facts, Floor, Floors
from edgekd.export.record import Recording

# Float32 model, which may be changed in place, and real calls -> model, facts for the manifest.
Method = Callable[[Any, list[Recording]], tuple[Any, Facts]]


@dataclass(frozen=True)
class OpenVinoPrecision:
    """One precision.

    Attributes:
        other: how parts are made from their float32 form; None: by the type of the file alone.
        own: parts that are made in another way, by component.
    """

    floors: Floors
    other: Method | None = None
    own: Mapping[str, Method] = field(default_factory=dict)

    def method(self, component: str) -> Method | None:
        return self.own.get(component, self.other)


_LAST_STEP = (
    "the worst call is the last step, whose prediction enters the picture with a weight of 0.03; "
    "the figures are in openvino/precisions.py, the floor is 0.5 to 5 dB below the worst of them"
)
_FLOAT = Floor(80.0, "float32 sums in another order keep 109 dB and more")
_HALF = Floor(45.0, "weights of 11 bits keep 72 dB, on a network of random weights 51 dB")
# bf16, where the CPU has it: operands of 8 bits, sums in float32.
_HALF_IN_BF16 = Floor(36.0, "bf16 keeps 40 dB and more")
_EIGHT_BITS = Floor(30.0, "each picture passes it once: 30 dB below the output stay unseen")
_INTEGER_DECODER = Floor(
    21.0,
    "8-bit activations keep 39 dB on the pictures that they are calibrated on, 26 dB on others, "
    "27 dB on random weights fed with noise",
)
_INTEGER_UNET = Floor(11.0, _LAST_STEP)
_SAME_PICTURE = "from 20 dB the same noise and prompt give a visibly different picture"

# Measured on starter teachers and students of them (guidance 4).
PRECISIONS = {
    "fp32": OpenVinoPrecision(
        Floors(_FLOAT, Floor(50.0, "the error stays below one grey level of 255, which is 48 dB"))
    ),
    "fp16": OpenVinoPrecision(
        Floors(
            _HALF,
            Floor(32.0, "bf16 keeps 38 dB; 32 dB is an error of six grey levels"),
            deployed={
                "unet": Floor(24.0, _LAST_STEP),
                **dict.fromkeys(
                    ("text_encoder", "text_encoder_2", "vae_encoder", "vae_decoder"), _HALF_IN_BF16
                ),
            },
        )
    ),
    "int8": OpenVinoPrecision(
        Floors(
            _EIGHT_BITS,
            Floor(28.0, "8-bit weights keep 34 dB in bf16"),
            {"unet": Floor(28.0, _LAST_STEP)},
            deployed={"unet": Floor(22.0, _LAST_STEP)},
        ),
        int8_weights,
    ),
    "int4": OpenVinoPrecision(
        Floors(
            _EIGHT_BITS,
            Floor(22.0, f"4-bit weights keep 26 dB; {_SAME_PICTURE}"),
            {"unet": Floor(14.0, _LAST_STEP)},
            deployed={"unet": Floor(13.0, _LAST_STEP)},
        ),
        int8_weights,
        {"unet": int4_weights},
    ),
    "int8_full": OpenVinoPrecision(
        Floors(
            _EIGHT_BITS,
            Floor(22.0, f"8-bit activations keep 27 dB; {_SAME_PICTURE}"),
            {"unet": _INTEGER_UNET, "vae_decoder": _INTEGER_DECODER},
        ),
        int8_weights,
        {"unet": integers, "vae_decoder": integers},
    ),
    "hybrid": OpenVinoPrecision(
        Floors(
            _EIGHT_BITS, Floor(22.0, f"28 dB are kept; {_SAME_PICTURE}"), {"unet": _INTEGER_UNET}
        ),
        int8_weights,
        {"unet": hybrid},
    ),
}
