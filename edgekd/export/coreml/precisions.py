"""What each precision of the Core ML exporter means, and the parity it owes."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.export.coreml.compress import CompressionRules, Storage
from edgekd.export.protocol import Floor, Floors

# They carry the latents and the timestep, a thousandth of the weights.
SENSITIVE = ("*conv_in.*", "*conv_out.*", "*time_embedding*", "*add_embedding*", "*quant_conv*")


@dataclass(frozen=True)
class CoreMlPrecision:
    """One precision.

    Attributes:
        recipe: storage of the weights; None: all float16.
        activations: whether activations are rounded to 8 bits.
        target: deployment target of Core ML; `iOS18` packages need iOS 18 or macOS 15.
    """

    floors: Floors
    recipe: CompressionRules | None = None
    activations: bool = False
    target: str = "iOS17"

    @property
    def bits_per_weight(self) -> float:
        """Of the weights that no rule names."""
        storage = self.recipe.rules[-1][1] if self.recipe else None
        return storage.bits_per_weight if storage else 16


def _recipe(storage: Storage, sensitive: Storage | None = None) -> CompressionRules:
    return CompressionRules((*((pattern, sensitive) for pattern in SENSITIVE), ("*", storage)))


_INT8 = Storage("linear", 8)
_PALETTE8 = Storage("palette", 8)
_PALETTE6 = Storage("palette", 6)
_PALETTE4 = Storage("palette", 4)
# Attention and feed-forward layers bear 4 bits better than convolutions; embeddings get 8.
_MIXED = CompressionRules(
    (
        *((pattern, _PALETTE8) for pattern in SENSITIVE),
        ("*embedding*", _PALETTE8),
        ("*transformer_blocks*", _PALETTE4),
        ("*", _PALETTE6),
    )
)

# Measured on the first starter teacher and on students of it and of the later ones: 8 DDIM steps,
# guidance 4, 2 prompts, evaluated from the package.
# The worst call is the U-Net's at timestep 1, where its output is smallest; the median call is 15
# to 20 dB above it, and decides the picture. How small that output is depends on teacher and
# prompts: a student of the starter's teacher keeps 6.6, 13.1 or 13.6 dB with grouped 4-bit tables,
# by the two prompts, and its pictures 21.9, 23.4 and 23.3. Another student of the same recipe kept
# 19.1 with the main job's prompts and was refused, as was the teacher in grouped 6-bit tables with
# 28.2 (33.4 with other prompts). The target of iOS 18 stores 8 bits, which keep 46.
_ROUNDED = "the input rounded to float16 and float16 weights keep 52 dB, the median call 72"
_FLOAT16 = Floor(40.0, _ROUNDED)
_EIGHT = Floor(27.0, "8-bit weights keep 30 dB, the median call 51")
_SIX = Floor(17.0, "6-bit tables keep 21 dB, the median call 39")
_FOUR = Floor(
    4.0, "4-bit tables keep 6.6 dB or more, the median call 28; the picture's floor is the stricter"
)
_NEAR = Floor(50.0, "the error stays below one grey level of 255, which is 48 dB; 82 were measured")
_ALIKE = Floor(30.0, "the picture is the same to the eye; 36 to 42 dB were measured")
_CLOSE = Floor(20.0, "below it the same noise and prompt give a visibly different picture")

_FLOAT16_FLOORS = Floors(_FLOAT16, _NEAR)
_EIGHT_FLOORS = Floors(_EIGHT, _ALIKE)
_FOUR_FLOORS = Floors(_FOUR, _CLOSE)

PRECISIONS: dict[str, CoreMlPrecision] = {
    "fp16": CoreMlPrecision(_FLOAT16_FLOORS),
    "int8": CoreMlPrecision(_EIGHT_FLOORS, _recipe(_INT8)),
    "palette8": CoreMlPrecision(_EIGHT_FLOORS, _recipe(_PALETTE8)),
    "palette6": CoreMlPrecision(Floors(_SIX, _ALIKE), _recipe(_PALETTE6)),
    "palette4": CoreMlPrecision(_FOUR_FLOORS, _recipe(_PALETTE4)),
    "mixed": CoreMlPrecision(
        Floors(
            Floor(
                12.0, "4 bits in attention and 6 elsewhere keep 12.3 to 17 dB, the median call 35"
            ),
            _CLOSE,
        ),
        _MIXED,
    ),
    # Half the weights left out without further training gives other pictures: 14 dB.
    "pruned25": CoreMlPrecision(
        Floors(
            Floor(5.0, "the smallest quarter of the weights holds 1 % of their energy: 9 dB"),
            _CLOSE,
        ),
        _recipe(Storage("sparse", 16, sparsity=0.25)),
    ),
    "w8a8": CoreMlPrecision(
        Floors(
            Floor(13.0, "8-bit inputs of each layer keep 13.5 to 20 dB, the median call 39"),
            Floor(25.0, "33 dB were measured"),
        ),
        _recipe(_INT8),
        activations=True,
    ),
    "fp16-ios18": CoreMlPrecision(_FLOAT16_FLOORS, target="iOS18"),
    "palette8-ios18": CoreMlPrecision(_EIGHT_FLOORS, _recipe(_PALETTE8), target="iOS18"),
    "palette4-ios18": CoreMlPrecision(
        _FOUR_FLOORS, _recipe(Storage("palette", 4, group=16)), target="iOS18"
    ),
    "int4-ios18": CoreMlPrecision(
        _FOUR_FLOORS, _recipe(Storage("linear", 4, group=32)), target="iOS18"
    ),
}
