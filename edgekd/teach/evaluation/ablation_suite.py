"""Schema of `benchmarks/teacher-ablation.yaml`: variants of a teacher's recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from edgekd.errors import InputError
from edgekd.schema import Section, load_yaml, override, validate
from edgekd.teach.recipe import TeachRecipe

# With another autoencoder or other images the losses could not be compared.
VARIED = ("unet.", "text.", "data.captions.")


class TeachVariant(Section):
    """One run: the recipe with some fields changed."""

    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    description: str = ""
    set: dict[str, Any] = Field({}, description="dotted recipe field -> value")
    batch_size: int | None = Field(
        None, ge=1, description="of all the U-Net's steps; as many images in fewer or more steps"
    )

    @field_validator("set")
    @classmethod
    def _comparable(cls, value: dict[str, Any]) -> dict[str, Any]:
        for dotted in value:
            if not dotted.startswith(VARIED):
                raise ValueError(f"a variant may only set {', '.join(VARIED)}*, but got `{dotted}`")
        return value


class TeachAblation(Section):
    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    guidance_scale: float = Field(4.0, ge=1, description="at which all variants are drawn")
    set: dict[str, Any] = Field({}, description="fields changed for all: the short budget")
    variants: list[TeachVariant] = Field(..., min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> TeachAblation:
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"variant names must differ, but got `{twice[0]}` twice")
        return self


def load_ablation(path: Path) -> TeachAblation:
    """Load and validate a suite.

    Raises:
        InputError: unreadable, or against the schema.
    """
    return validate(TeachAblation, load_yaml(path), f"suite `{path}`")


def assignments_of(values: dict[str, Any]) -> list[str]:
    """As `--set` takes them (JSON is YAML)."""
    return [f"{dotted}={json.dumps(value)}" for dotted, value in values.items()]


def base_recipe(suite: TeachAblation, recipe_path: Path, assignments: list[str]) -> TeachRecipe:
    """The recipe that all variants start from; `--set` comes last."""
    changes = [*assignments_of(suite.set), *assignments]
    return validate(
        TeachRecipe, override(load_yaml(recipe_path), changes), f"recipe `{recipe_path}`"
    )


def variant_recipe(base: TeachRecipe, variant: TeachVariant) -> TeachRecipe:
    """The recipe of one variant.

    Raises:
        InputError: an unknown field, or images that are no multiple of the batch size.
    """
    values = override(base.model_dump(mode="json"), assignments_of(variant.set))
    if variant.batch_size is not None:
        train = values["unet"]["train"]
        train.update(_with_batch_size(base, variant.name, variant.batch_size))
    return validate(TeachRecipe, values, f"variant `{variant.name}`")


def _with_batch_size(base: TeachRecipe, name: str, batch_size: int) -> dict[str, Any]:
    """One phase of as many images; warm-up and decay keep their shares of the images."""
    train = base.unet.train
    images = sum(phase.steps * phase.batch_size for phase in train.phases)
    if images % batch_size:
        raise InputError(
            f"the U-Net's images must be a multiple of the batch size of variant `{name}`",
            f"{images} and {batch_size}",
        )
    steps = images // batch_size
    return {
        "phases": [{"steps": steps, "batch_size": batch_size}],
        "warmup_steps": round(train.warmup_steps * steps / train.steps),
        "decay_steps": round(train.decay_steps * steps / train.steps),
        "validate_every": max(1, round(train.validate_every * steps / train.steps)),
    }
