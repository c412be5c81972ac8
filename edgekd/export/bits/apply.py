"""A recipe on its way into an export: checked before any work, then handed to each conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.export.bits.recipe import (
    QuantizationRecipe,
    find_storage,
    resolve,
    save_quantization,
)
from edgekd.export.bits.storage import PartBits, StoresBits
from edgekd.export.bits.weights import Bits, models, of_part
from edgekd.export.manifest import RecipeFacts
from edgekd.export.outline import PIPELINE_ATTRIBUTES
from edgekd.export.protocol import Floor, Floors

# The precision of an export whose bits a recipe gives.
MIXED = "mixed"
RECIPE_FILE = "quantization.yaml"
MIXED_FLOORS = Floors(
    part=Floor(
        7.0,
        "uniform 4 bits keep 12 dB at the last step, where a prediction is smallest and counts "
        "least; how much the pictures may lose is the bound of the recipe's own choice",
    ),
    picture=Floor(20.0, "below it the same noise and prompt give a visibly different picture"),
)


@dataclass(frozen=True)
class AppliedRecipe:
    """A recipe that fits a pipeline and a runtime.

    Attributes:
        bits: component -> torch tensor name -> bits; None: float.
    """

    recipe: QuantizationRecipe
    bits: Mapping[str, Bits]

    def part(self, name: str) -> PartBits:
        """What the conversion of a part is told."""
        component = of_part(dict(self.bits.get(PIPELINE_ATTRIBUTES[name], {})), name)
        chosen = {tensor: bits for tensor, bits in component.items() if bits is not None}
        return PartBits(self.recipe.method, chosen)

    def save(self, folder: Path) -> RecipeFacts:
        """Write the recipe beside the export; returns what the manifest tells of it."""
        save_quantization(self.recipe, folder / RECIPE_FILE)
        how = self.recipe
        return RecipeFacts(recipe=RECIPE_FILE, method=how.method, measured=how.measured)


def storages(exporter: Any) -> StoresBits:
    """The exporter, as one that stores each weight in bits of its own.

    Raises:
        InputError: it does not.
    """
    if not isinstance(exporter, StoresBits):
        raise InputError(
            "--quantize needs a runtime that stores each weight in bits of its own", exporter.name
        )
    return exporter


def mixed_precision(asked: str | None) -> str:
    """The precision of an export with a recipe.

    Raises:
        InputError: another one is asked for.
    """
    if asked not in (None, MIXED):
        raise InputError(
            f"an export with a quantization recipe has the precision `{MIXED}`", repr(asked)
        )
    return MIXED


def apply_recipe(
    exporter: Any, pipeline: Any, recipe: QuantizationRecipe, precision: str
) -> AppliedRecipe:
    """Hold a recipe against an exporter and a pipeline.

    Args:
        pipeline: diffusers pipeline; its weights are not looked at.

    Raises:
        InputError: the runtime or the pipeline cannot have such bits; see `resolve`.
    """
    mixed_precision(precision)
    storage = find_storage(recipe, exporter.name, storages(exporter).weight_storages)
    return AppliedRecipe(recipe, resolve(recipe, models(pipeline), storage))
