"""How each row draws: as its folder says, else as the suite says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekd.benchmark.suite import GenerationSection
from edgekd.export.protocol import Generation
from edgekd.model_card import read_header
from edgekd.reading import Fields, read_json
from edgekd.recipe import RowGeneration
from edgekd.runtime.scheduler_settings import SAMPLERS

MANIFEST = "manifest.json"
# It knows every noise schedule and prediction, and adds no noise.
_FALLBACK = "DDIMScheduler"
# Names of diffusers, under `inference: parameters:` of a model card's header.
_STEPS, _GUIDANCE = "num_inference_steps", "guidance_scale"


def row_generation(folder: Path, suite: GenerationSection) -> RowGeneration:
    """The generation of a pipeline folder.

    A manifest says it of an export, and the model card of a student that is made for few steps.
    Other diffusers folders leave steps and guidance open: the suite's are theirs. Their sampler is
    the suite's where it has one, else their own; and another where a device has not that.
    """
    said = stated_generation(folder)
    if said is None:
        return suite_generation(folder, suite)
    if said.sampler in SAMPLERS:
        return said
    return replace(said, sampler=suite.scheduler or _FALLBACK)


def suite_generation(folder: Path, suite: GenerationSection) -> RowGeneration:
    """As the suite says, whatever the folder does; without a sampler of the suite's, its own."""
    sampler = suite.scheduler or _own_sampler(folder)
    if sampler not in SAMPLERS:
        sampler = _FALLBACK
    return RowGeneration(sampler, suite.steps, suite.guidance_scale)


def stated_generation(folder: Path) -> RowGeneration | None:
    """What a folder itself says; its sampler is that of its scheduler config."""
    if (folder / MANIFEST).is_file():
        values = _inner(read_json(folder / MANIFEST), "recommended")
        steps, guidance_scale = values.get("steps"), values.get("guidance_scale")
    else:
        values = _inner(read_header(folder), "inference", "parameters")
        steps, guidance_scale = values.get(_STEPS), values.get(_GUIDANCE, 1.0)
    if not isinstance(steps, int) or not isinstance(guidance_scale, int | float):
        return None
    return RowGeneration(_own_sampler(folder), steps, float(guidance_scale))


def recommended_generation(folder: Path) -> Generation:
    """Steps and guidance of an export's manifest or a student's model card, else edgekd's own."""
    said = stated_generation(folder)
    return Generation(said.steps, said.guidance_scale) if said else Generation()


def tuned_options(folder: Path) -> dict[str, Any]:
    """What `edgekd export --tune` chose for an export, as its manifest has it; else nothing."""
    path = folder / MANIFEST
    return dict(_inner(read_json(path), "tuning", "chosen")) if path.is_file() else {}


def _own_sampler(folder: Path) -> str:
    return Fields.read(folder / "scheduler" / "scheduler_config.json").text("_class_name")


def _inner(values: Any, *names: str) -> Mapping[str, Any]:
    """The mapping under these names; empty where something else stands there."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}
