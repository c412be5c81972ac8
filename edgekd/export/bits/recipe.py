"""Schema of quantization recipes: bits per weight by torch's tensor names, in YAML.

    format: 1
    method: linear
    components:
      unet:
        default: 8
        bits: {down_blocks.0.resnets.0.conv1.weight: 6, conv_in.weight: float}

A recipe holds for every pipeline that has the tensors it names: fine-tunes of one architecture,
whatever their weights. `source` and `measured` tell where it comes from and are not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PlainValidator
from torch import nn

from edgekd.errors import InputError
from edgekd.export.bits.storage import WeightStorage
from edgekd.export.bits.weights import Bits, weights
from edgekd.files import write_text
from edgekd.schema import Section, load_yaml, validate

FLOAT = "float"
_NAMED = 3  # how many names an error lists


def _check_bits(value: object) -> int | str:
    if value == FLOAT or (type(value) is int and 1 <= value <= 8):
        return value
    raise ValueError("must be 1 to 8 bits or `float`")


StoredBits = Annotated[int | str, PlainValidator(_check_bits)]


class ComponentRecipe(Section):
    default: StoredBits = Field(8, description="of the weights that `bits` does not name")
    bits: dict[str, StoredBits] = Field({}, description="torch tensor name -> bits or `float`")


class RecipeSource(Section):
    hash: str
    pipeline: str


class HeldOutMeasured(Section):
    """Pictures that the choice was not made on; see `edgekd.export.bits.held_out`.

    Here PSNR is the mean of the pictures' own, and `drop_db` the mean of their losses against
    uniform 8 bits.
    """

    psnr_db: float
    uniform_psnr_db: float
    drop_db: float
    drop_standard_error_db: float
    worst_drop_db: float = Field(..., description="of a single picture")
    prompts: list[str]
    seed: int


class ChoiceFigures(Section):
    """What the choice was measured at. PSNR in dB of all pictures together, peak 1.

    `drop_db` is below `uniform_psnr_db`, that of all weights in 8 bits. `predicted_psnr_db`
    takes the noises of single units as additive.
    """

    psnr_db: float
    predicted_psnr_db: float
    latents_psnr_db: float
    drop_db: float
    weights_bytes: int = Field(..., description="of all parts, float weights included")
    uniform_psnr_db: float
    uniform_weights_bytes: int
    float_weights_bytes: int
    units: int
    prompts: list[str]
    steps: int
    guidance_scale: float
    seed: int
    held_out: HeldOutMeasured


class QuantizationRecipe(Section):
    format: Literal[1]
    method: str = Field(..., description="a method of the runtime, such as `linear` or `palette`")
    components: dict[str, ComponentRecipe] = Field(..., min_length=1)
    source: RecipeSource | None = None
    measured: ChoiceFigures | None = None


def load_quantization(path: Path) -> QuantizationRecipe:
    """Read a recipe.

    Raises:
        InputError: unreadable, or not a recipe; one line.
    """
    return validate(QuantizationRecipe, load_yaml(path), f"quantization recipe `{path}`")


def save_quantization(recipe: QuantizationRecipe, path: Path) -> None:
    """Write a recipe, whole or not at all; equal recipes give equal files."""
    values = recipe.model_dump(exclude_none=True)
    write_text(path, yaml.safe_dump(values, sort_keys=False, width=100))


def find_storage(recipe: QuantizationRecipe, runtime: str, storages: Any) -> WeightStorage:
    """The runtime's storage of a recipe's method.

    Raises:
        InputError: the runtime has no such method.
    """
    known = {storage.method: storage for storage in storages}
    if recipe.method not in known:
        raise InputError(
            f"the recipe's `method` must be one that `{runtime}` has ({', '.join(known)})",
            repr(recipe.method),
        )
    storage: WeightStorage = known[recipe.method]
    return storage


def resolve(
    recipe: QuantizationRecipe, found: Mapping[str, nn.Module], storage: WeightStorage
) -> dict[str, Bits]:
    """Bits of every weight of a pipeline that can be stored in few bits.

    A weight that no entry names gets the component's default, or the next higher number of bits
    that the runtime has for it. A component that the recipe does not name stays as it is.

    Args:
        found: the pipeline's models by component; their weights are not looked at.

    Raises:
        InputError: a component or a tensor does not exist, is no such weight, or cannot be stored
            in the bits that are asked for; the message names them.
    """
    absent = sorted(set(recipe.components) - set(found))
    if absent:
        raise InputError(
            f"the recipe's components must be among {', '.join(found)}", ", ".join(absent)
        )
    return {
        name: _resolve_component(name, part, found[name], storage)
        for name, part in recipe.components.items()
    }


def _resolve_component(
    component: str, recipe: ComponentRecipe, model: nn.Module, storage: WeightStorage
) -> Bits:
    known = weights(model)
    _check_names(component, recipe, model, set(known))
    result: Bits = {}
    for name, weight in known.items():
        choices = storage.choices(weight.kind, weight.shape)
        asked = recipe.bits.get(name)
        if asked is None:
            result[name] = _at_least(recipe.default, choices)
        elif asked == FLOAT or asked in choices:
            result[name] = None if asked == FLOAT else int(asked)
        else:
            can = ", ".join([*map(str, choices), FLOAT])
            raise InputError(
                f"`{component}.{name}` must be stored in {can} ({storage.method}, {weight.kind})",
                str(asked),
            )
    return result


def _check_names(
    component: str, recipe: ComponentRecipe, model: nn.Module, known: set[str]
) -> None:
    missing = sorted(set(recipe.bits) - known)
    if not missing:
        return
    others = {name for name, _ in model.named_parameters()} & set(missing)
    listed = ", ".join(missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    if others == set(missing):
        raise InputError(
            f"the recipe must name weights of convolutions, linear layers or embeddings of "
            f"`{component}`",
            f"{listed}{more}",
        )
    raise InputError(
        f"every tensor that the recipe names must exist in `{component}`",
        f"{len(missing)} of {len(recipe.bits)} missing: {listed}{more}",
        "A recipe fits pipelines of the architecture that it was made for.",
    )


def _at_least(default: int | str, choices: tuple[int, ...]) -> int | None:
    """The fewest bits of `choices` that are not below the default; None: stays a float."""
    enough = [bits for bits in choices if default != FLOAT and bits >= int(default)]
    return min(enough, default=None)
