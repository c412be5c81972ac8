"""Schema of `benchmarks/*.yaml`: what a benchmark measures, and how often.

`docs/suite.schema.json` is its JSON schema: `python -m edgekd.benchmark.suite >
docs/suite.schema.json` writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    Field,
    StringConstraints,
    TypeAdapter,
    field_validator,
    model_validator,
)

from edgekd.benchmark.search_suites import BaselinesSuite, TransferSuite
from edgekd.devices.listing import LOCAL, DeviceName
from edgekd.errors import InputError
from edgekd.recipe import Recipe
from edgekd.recipe_losses import LossSection, is_loss_term
from edgekd.runtime.sampler_names import sampler_class
from edgekd.schema import Section, load_yaml, validate

# It names a folder too.
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,63}$")]


class GenerationSection(Section):
    """How rows draw whose folders do not say it, in quality, speed and memory alike."""

    scheduler: str | None = Field(
        None, description="sampler: diffusers' class or an alias; null: each folder's own"
    )
    steps: int = Field(20, ge=1, le=1_000, description="denoising steps")
    guidance_scale: float = Field(4.0, ge=1.0, description="1: no classifier-free guidance")

    @field_validator("scheduler")
    @classmethod
    def _sampler_exists(cls, value: str | None) -> str | None:
        try:
            return None if value is None else sampler_class(value)
        except InputError as error:
            raise ValueError(str(error)) from None

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1


class QualitySection(Section):
    samples: int = Field(
        64,
        ge=2,
        description="pictures of each row. At most half of the validation images give prompts, the "
        "rest is reference; where these are fewer, they are drawn again from other noise",
    )
    batch_size: int = Field(16, ge=1)
    workers: int = Field(0, ge=0, description="processes that draw; 0: one per core")
    prompts: list[Annotated[str, Field(pattern=r"\S")]] = Field(
        [], description="drawn in turn in place of held-out captions; empty: those"
    )
    seed: int = Field(0, ge=0, description="of the choice of prompts, the noise and KID's subsets")
    kid_subsets: int = Field(50, ge=1)
    kid_subset_size: int = Field(32, ge=2)

    @field_validator("prompts")
    @classmethod
    def _prompts_differ(cls, value: list[str]) -> list[str]:
        twice = sorted({one for one in value if value.count(one) > 1})
        if twice:
            raise ValueError(f"`prompts` must differ, but got {twice[0]!r} twice")
        return value

    @model_validator(mode="after")
    def _subset_fits(self) -> QualitySection:
        if self.kid_subset_size > self.samples:
            raise ValueError(
                f"`kid_subset_size <= samples` must hold, but got "
                f"{self.kid_subset_size} and {self.samples}"
            )
        return self


class SpeedSection(Section):
    threads: int = Field(1, ge=1, description="CPU threads of every runtime")
    warmup: int = Field(3, ge=1, description="calls of each component that do not count")
    component_runs: int = Field(20, ge=1)
    image_runs: int = Field(7, ge=1, description="whole pictures; one more is drawn as warm-up")
    cold_starts: int = Field(
        1, ge=0, description="fresh processes, each timed from its start to its first picture"
    )
    busy_repeats: int = Field(
        2, ge=0, description="times are taken again so often while other work holds the cores"
    )


class ScalingSection(Section):
    """Latency and memory along each axis; the others stay as the row draws, but for the steps."""

    batch: list[int] = Field([1, 2, 4, 8], description="pictures of one call")
    side: list[int] = Field([], description="pixels; empty: half, once and twice the row's own")
    steps: list[int] = Field([1, 2, 4, 8], description="denoising steps")
    threads: list[int] = Field([1, 2], description="CPU threads of the runtime")
    draw_steps: int = Field(
        4, ge=1, description="denoising steps on the other axes, at most the row's own"
    )
    runs: int = Field(3, ge=1, description="samples of each point")


class EmbeddingsSection(Section):
    """Inner features of each student of torch against the teacher's."""

    samples: int = Field(64, ge=8, description="held-out images with their captions")
    timesteps: int = Field(4, ge=1, le=20, description="evenly spread over the noise schedule")
    attention_prompts: int = Field(2, ge=0, description="captions whose attention maps are shown")


class WeightsSection(Section):
    """Files for metrics whose networks edgekd does not ship; null: such metrics are left out."""

    inception: Path | None = Field(None, description="torch-fidelity's Inception file: FID")
    dinov2: Path | None = Field(None, description="folder of a DINOv2 (transformers): FD-DINOv2")
    clip: Path | None = Field(None, description="folder of a CLIP: CLIP score, CMMD, retrieval")


class Variant(Section):
    """One more student that a suite trains: the recipe with some fields changed."""

    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    description: str = ""
    set: dict[str, Any] = Field({}, description="dotted recipe field -> value")

    @field_validator("set")
    @classmethod
    def _fields_exist(cls, value: dict[str, Any]) -> dict[str, Any]:
        for dotted in value:
            if dotted.split(".")[0] not in {"distill", "student"}:
                raise ValueError(
                    "a variant may only set fields of `distill` and `student` (else its row could "
                    f"not be compared with the teacher's), but got `{dotted}`"
                )
            if not is_recipe_field(dotted):
                raise ValueError(f"`{dotted}` must be a recipe field")
        return value

    @property
    def assignments(self) -> list[str]:
        """As `--set` takes them (JSON is YAML)."""
        return [f"{dotted}={json.dumps(value)}" for dotted, value in self.set.items()]


class Suite(Section):
    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    generation: GenerationSection = GenerationSection()
    quality: QualitySection = QualitySection()
    speed: SpeedSection | None = Field(SpeedSection(), description="null: no times are measured")
    memory: bool = Field(True, description="peak memory of each row in a fresh process")
    scaling: ScalingSection | None = Field(None, description="null: is not measured")
    embeddings: EmbeddingsSection | None = Field(
        EmbeddingsSection(), description="null: inner features are not compared"
    )
    weights: WeightsSection = WeightsSection()
    models: dict[ModelName, Path] = Field(
        {},
        description="name in the report -> folder or checkpoint, diffusers' or exported, or a run "
        "folder of `edgekd distill`; the recipe's teacher is always there",
    )
    targets: dict[str, list[str]] = Field(
        {},
        description="each diffusers model is exported for these too: target -> precisions; "
        "empty: all that the target lists",
    )
    generations: dict[ModelName, GenerationSection] = Field(
        {}, description="name -> how every model draws once more, beside its own way"
    )
    devices: list[DeviceName] = Field(
        [LOCAL],
        min_length=1,
        description="where rows are timed and weighed: `local`, this machine, and names of "
        "`devices.yaml`",
    )
    skip: list[str] = Field([], description="metrics that are left out")
    pictures: int = Field(8, ge=1, le=64, description="prompts shown side by side in the report")
    variants: list[Variant] = Field([], description="students to train first; empty: none")

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if self.pictures > self.quality.samples:
            raise ValueError(
                f"`pictures <= quality.samples` must hold, but got "
                f"{self.pictures} and {self.quality.samples}"
            )
        if len(set(self.devices)) < len(self.devices):
            raise ValueError(f"`devices` must differ, but got {', '.join(self.devices)}")
        names = ["teacher", *(variant.name for variant in self.variants), *self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                "names of variants and models must differ, and from the teacher's, but got "
                f"`{twice[0]}` twice"
            )
        return self

    def with_sampler(self, name: str) -> Suite:
        """The suite with another sampler, by diffusers' class."""
        generation = self.generation.model_copy(update={"scheduler": name})
        return self.model_copy(update={"generation": generation})


class ExportSuite(Section):
    """What exports of a large pipeline cost: no images, no quality."""

    kind: Literal["export"]
    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    architecture: Literal["sd15", "sd21", "sdxl"] = Field(
        "sd15", description="published configuration; the weights are random"
    )
    seed: int = Field(0, ge=0, description="of the weights")
    targets: dict[str, list[str]] = Field(
        ..., min_length=1, description="target -> precisions; empty: all that the target lists"
    )
    prompts: list[str] = Field(..., min_length=1, description="parity prompts")
    steps: int = Field(2, ge=1, description="denoising steps that parity is measured on")
    guidance_scale: float = Field(4.0, ge=1.0)


AnySuite = Suite | ExportSuite | TransferSuite | BaselinesSuite
_KINDS: dict[str, type[ExportSuite] | type[TransferSuite] | type[BaselinesSuite]] = {
    "export": ExportSuite,
    "search-transfer": TransferSuite,
    "search-vs-baselines": BaselinesSuite,
}


def json_schema() -> str:
    """The schema of all kinds of suites, as `docs/suite.schema.json` holds it."""
    return json.dumps(TypeAdapter(AnySuite).json_schema(), indent=0) + "\n"


def is_recipe_field(dotted: str) -> bool:
    """Whether `section.field` names a value of the recipe; free-form mappings accept any key."""
    model: type[BaseModel] = Recipe
    parts = dotted.split(".")
    for index, part in enumerate(parts):
        field = model.model_fields.get(part)
        if field is None:
            return model is LossSection and parts[index:] == [part] and is_loss_term(part)
        if index == len(parts) - 1:
            return True
        inner = _section_of(field.annotation)
        if inner is None:
            return "dict" in str(field.annotation)
        model = inner
    return False


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def load_suite(path: Path) -> Suite:
    """Load and validate a suite file that measures teacher and students.

    Raises:
        InputError: unreadable, not YAML, or against the schema; all problems on one line.
    """
    return validate(Suite, load_yaml(path), f"suite `{path}`")


def load_any_suite(path: Path) -> AnySuite:
    """Load and validate a suite file of any kind.

    Raises:
        InputError: as `load_suite`.
    """
    kind = load_yaml(path).get("kind")
    if kind is None:
        return load_suite(path)
    if kind not in _KINDS:
        raise InputError(f"`kind` of a suite must be one of {', '.join(_KINDS)}", repr(kind))
    return validate(_KINDS[kind], load_yaml(path), f"suite `{path}`")


if __name__ == "__main__":
    print(json_schema(), end="")
