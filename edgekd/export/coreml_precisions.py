"""What each precision of the Core ML exporter means, and the parity it owes."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.export.coreml_compress import Storage, WeightRecipe
from edgekd.export.protocol import Floor

# They carry the latents and the timestep, a thousandth of the weights.
SENSITIVE = ("*conv_in.*", "*conv_out.*", "*time_embedding*", "*add_embedding*", "*quant_conv*")


@dataclass(frozen=True)
class Precision:
    """One precision.

    Attributes:
        component, picture: parity floors.
        recipe: storage of the weights; None: all float16.
        activations: whether activations are rounded to 8 bits.
        target: deployment target of Core ML; `iOS18` packages need iOS 18 or macOS 15.
    """

    component: Floor
    picture: Floor
    recipe: WeightRecipe | None = None
    activations: bool = False
    target: str = "iOS17"


def _recipe(storage: Storage, sensitive: Storage | None = None) -> WeightRecipe:
    return WeightRecipe((*((pattern, sensitive) for pattern in SENSITIVE), ("*", storage)))


_INT8 = Storage("linear", 8)
_PALETTE8 = Storage("palette", 8)
_PALETTE6 = Storage("palette", 6)
_PALETTE4 = Storage("palette", 4)
# Attention's projections bear 4 bits; convolutions and feed-forward layers 6; embeddings 8.
_MIXED = WeightRecipe(
    (
        *((pattern, _PALETTE8) for pattern in SENSITIVE),
        ("*embedding*", _PALETTE8),
        ("*attn?.to_q.*", _PALETTE4),
        ("*attn?.to_k.*", _PALETTE4),
        ("*", _PALETTE6),
    )
)

_SAME = Floor(20.0, "below it the same noise and prompt give a visibly different picture")
_X = Floor(-300.0, "to be measured")

PRECISIONS: dict[str, Precision] = {
    "fp16": Precision(_X, _X),
    "int8": Precision(_X, _X, _recipe(_INT8)),
    "palette8": Precision(_X, _X, _recipe(_PALETTE8)),
    "palette6": Precision(_X, _X, _recipe(_PALETTE6)),
    "palette4": Precision(_X, _X, _recipe(_PALETTE4)),
    "mixed": Precision(_X, _X, _MIXED),
    "pruned50": Precision(_X, _X, _recipe(Storage("sparse", 16, sparsity=0.5))),
    "w8a8": Precision(_X, _X, _recipe(_INT8), activations=True),
    "fp16-ios18": Precision(_X, _X, target="iOS18"),
    "palette4-ios18": Precision(_X, _X, _recipe(Storage("palette", 4, group=16)), target="iOS18"),
    "int4-ios18": Precision(_X, _X, _recipe(Storage("linear", 4, group=32)), target="iOS18"),
}
