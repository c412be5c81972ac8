"""Schema of `configs/*.yaml`: the recipe of one `edgekd distill` run.

Every field has one meaning and one owner, the stage named by its section.
Unknown keys are errors, and so are values of the wrong type.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from edgekd.entries import TERMS, entries
from edgekd.errors import InputError
from edgekd.resources import STARTER_NAME
from edgekd.schema import Section, load_yaml, override, validate


class TeacherSection(Section):
    path: str = Field(
        STARTER_NAME, description="diffusers folder, checkpoint (.safetensors), or `starter`"
    )
    arch: Literal["sd15", "sd21", "sdxl"] | None = Field(
        None,
        description="published architecture that stands in, with random weights, for a `path` "
        "that is not there; in a dry run only",
    )


class FilterSection(Section):
    min_side: int = Field(32, ge=1, description="smallest accepted side in pixels")
    max_pixels: int = Field(64_000_000, ge=1, description="more pixels count as a bomb")
    max_aspect: float = Field(3.0, ge=1.0, description="largest accepted long/short side ratio")
    min_caption_chars: int = Field(1, ge=0)
    max_caption_chars: int = Field(2_000, ge=1)
    duplicate_distance: int = Field(
        2,
        ge=-1,
        le=8,
        description="perceptual-hash bits up to which images are duplicates; -1: off",
    )
    duplicate_rms: float = Field(
        3.0,
        ge=0.0,
        le=255.0,
        description="and RMS up to which 8x8 thumbnails differ, of 255; the hash sees no colour",
    )


class SplitSection(Section):
    """Which samples are held out. Decided by hashes, so it never depends on order."""

    group_key: str | None = Field(
        None,
        description="sample field that groups renderings of one thing, as the starter's `label`; "
        "null: that one for the starter, equal captions for other sources",
    )
    group_fraction: float = Field(
        0.05, ge=0.0, lt=1.0, description="fraction of groups held out whole"
    )
    image_fraction: float = Field(
        0.05, ge=0.0, lt=1.0, description="fraction of the other images held out one by one"
    )
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _some_validation(self) -> SplitSection:
        if self.group_fraction + self.image_fraction <= 0:
            raise ValueError("`group_fraction + image_fraction > 0` must hold, but got 0")
        return self


class SourcesSection(Section):
    """Where captioned images are, and how they are read."""

    sources: list[str] = Field(
        [STARTER_NAME], min_length=1, description="folders, parquet files, tars, globs, `starter`"
    )
    caption_column: str | None = Field(
        None,
        description="column of tables, or field of JSON, that holds the caption; null: found by "
        "the usual names",
    )
    image_key: str | None = Field(
        None,
        description="part of a tar's sample (`jpg`, `depth.png`), or column of a parquet file, "
        "that holds the image; null: found",
    )
    max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="larger images, texts, rows and samples are skipped without being read",
    )


class DataSection(SourcesSection):
    resolution: int | None = Field(
        None,
        ge=16,
        le=2048,
        multiple_of=8,
        description="side in pixels, also of what the student draws; null: the teacher's",
    )
    background: str = Field(
        "white", description="any colour Pillow names, under transparent pixels"
    )
    crop: Literal["center", "random"] = Field("center", description="`random` is seeded by content")
    shard_samples: int = Field(1_000, ge=1, description="samples per WebDataset shard")
    workers: int = Field(0, ge=0, description="processes; 0: one per core")
    filters: FilterSection = FilterSection()
    split: SplitSection = SplitSection()

    @property
    def side(self) -> int:
        """The resolution, where it is settled.

        Raises:
            InputError: it is left to a teacher.
        """
        if self.resolution is None:
            raise InputError("`data.resolution` must be a number where no teacher tells it", "null")
        return self.resolution


class StudentSection(Section):
    preset: str | None = Field("full", description="named architecture; full: the teacher's")
    arch: dict[str, Any] | None = Field(None, description="explicit StudentArch fields")

    @model_validator(mode="after")
    def _one_of(self) -> StudentSection:
        if (self.preset is None) == (self.arch is None):
            raise ValueError("exactly one of `preset` and `arch` must be given")
        return self


# Fields of `LossSection` that are no weights.
LOSS_OPTIONS = frozenset(
    {
        "min_snr_gamma",
        "lift_groups",
        "attention_temperature",
        "attention_queries",
        "attention_layers",
        "balance",
        "hints_until",
    }
)


class LossSection(Section):
    """Weights of the loss terms; 0 turns a term off and saves its cost.

    Terms that other packages bring (entry points `edgekd.terms`) may be named beside these.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[float, Field(ge=0)]]

    task: float = Field(1.0, ge=0, description="noise prediction against the ground truth")
    output: float = Field(1.0, ge=0, description="student against teacher prediction")
    output_lift: float = Field(
        0.0,
        ge=0,
        description="the same, coarse part first: for very small students",
    )
    feature: float = Field(
        1.0, ge=0, description="block features, normalised by the teacher's power"
    )
    activation_map: float = Field(
        0.0, ge=0, description="where blocks are active, summed over channels: of any width"
    )
    self_attention: float = Field(0.0, ge=0, description="attention of pixels to pixels")
    cross_attention: float = Field(0.0, ge=0, description="attention of pixels to the text")
    min_snr_gamma: float | None = Field(5.0, gt=0, description="null: no min-SNR weighting")
    lift_groups: int = Field(
        1, ge=1, description="parts of a prediction, by size of error, that `output_lift` fits"
    )
    attention_temperature: float = Field(
        1.0, gt=0, description="both sides' attention logits are divided by it"
    )
    attention_queries: int = Field(256, ge=1, description="queries compared in a layer and step")
    attention_layers: int = Field(2, ge=1, description="layers of each kind compared in a step")
    balance: Literal["none", "initial"] = Field(
        "none", description="initial: each term is divided by its value before training"
    )
    hints_until: float | None = Field(
        None,
        gt=0,
        le=1,
        description="part of the training over which the weights of terms inside the U-Net "
        "(features, maps, attention) fall to 0; null: they stay",
    )

    @model_validator(mode="after")
    def _some_term(self) -> LossSection:
        for name in self.__pydantic_extra__:
            if not is_loss_term(name):
                raise ValueError(f"`{name}` must be a loss term: {', '.join(entries(TERMS))}")
        if not self.weights:
            raise ValueError("at least one loss weight must be above 0")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term that is on: those above in their order, then others by name."""
        fields = (name for name in type(self).model_fields if name not in LOSS_OPTIONS)
        names = (*fields, *sorted(self.__pydantic_extra__))
        return {name: weight for name in names if (weight := getattr(self, name)) > 0}


def is_loss_term(name: str) -> bool:
    """Whether an installed package brings a loss term of this name."""
    return name in entries(TERMS)


class LoopSection(Section):
    """A training loop's settings."""

    steps: int = Field(1_000, ge=1)
    batch_size: int = Field(32, ge=1, description="samples per step and process")
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = Field(0.995, ge=0.0, lt=1.0, description="0: no EMA")
    checkpoint_every: int = Field(100, ge=1)
    validate_every: int = Field(100, ge=1)
    validation_samples: int = Field(128, ge=1)
    sample_every: int = Field(0, ge=0, description="0: sample sheet only at the end")


class FewStepSection(LoopSection):
    """The phase `few_step`: the student draws its teacher's guided pictures in a few steps."""

    method: Literal["trajectory", "consistency", "distribution"] = Field(
        "trajectory",
        description="trajectory: follow the teacher's drawn trajectories (SFD); consistency: jump "
        "alike from neighbouring noise levels, at any guidance scale (LCM); distribution: draw "
        "pictures that teacher and a score of the student's own agree on (DMD2 without GAN)",
    )
    student_steps: int = Field(4, ge=1, le=50, description="steps of the student's sampler")
    teacher_steps: int = Field(
        16,
        ge=1,
        description="least steps of the teacher's sampler (DPM-Solver++ 2M), where it is followed "
        "(trajectory) or compared with (consistency)",
    )
    guidance_scale: float = Field(
        7.5,
        ge=1.0,
        description="of the teacher's pictures; the student draws in one pass. consistency: what "
        "its clients are told to give it",
    )
    trajectories: int = Field(
        10_000, ge=1, description="trajectory: drawn by the teacher before the training, and kept"
    )
    guidance_range: tuple[float, float] = Field(
        (3.0, 15.0), description="consistency: guidance scales that the student learns to obey"
    )
    fake_updates: int = Field(
        5, ge=1, description="distribution: updates of the student's score for each of the student"
    )
    batch_size: int = Field(16, ge=1, description="trajectories per step and process")
    learning_rate: float = Field(5e-5, gt=0)
    ema_decay: float = Field(
        0.995,
        ge=0.0,
        lt=1.0,
        description="0: no EMA. consistency: the average is the target too, 0.95 in LCM",
    )

    @model_validator(mode="after")
    def _told_what_was_learned(self) -> FewStepSection:
        low, high = self.guidance_range
        if not 1 <= low <= high:
            raise ValueError(
                f"`1 <= guidance_range[0] <= guidance_range[1]` must hold, but got {low}, {high}"
            )
        if self.method == "consistency" and not low <= self.guidance_scale <= high:
            raise ValueError(
                "`guidance_scale` must lie in `guidance_range` for `method: consistency`, but got "
                f"{self.guidance_scale} and {low} to {high}"
            )
        return self


class DecoderSection(LoopSection):
    """The phase `decoder`: a narrow VAE takes the place of the teacher's."""

    width: float = Field(0.5, gt=0, le=1, description="share of each stage's channels that stays")
    layers: int | None = Field(None, ge=1, description="residual blocks of a stage; null: all")
    perceptual: float = Field(1.0, ge=0, description="weight of EfficientNet-Lite0's features")
    moments: float = Field(1.0, ge=0, description="weight of the encoder's; 0: it stays as fitted")
    generated: float = Field(0.5, ge=0, le=1, description="share of drawn latents, if there are")
    crop: int = Field(32, ge=8, description="side of random crops that larger latents are cut to")
    batch_size: int = Field(16, ge=1, description="latents per step and process")
    learning_rate: float = Field(1e-3, gt=0)


PhaseName = Literal["kd", "few_step", "decoder"]


class DistillSection(LoopSection):
    """What the student is taught: the phases in their order; the loop's settings are of `kd`."""

    phases: list[PhaseName] = Field(["kd", "few_step", "decoder"], min_length=1)
    gradient_checkpointing: bool = False
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware computes it, else fp32"
    )
    text_dropout: float = Field(0.1, ge=0.0, lt=1.0, description="captions dropped for guidance")
    initialise: Literal["teacher", "random"] = Field(
        "teacher", description="student's first weights"
    )
    losses: LossSection = LossSection()
    few_step: FewStepSection = FewStepSection()
    decoder: DecoderSection = DecoderSection()
    sample_prompts: list[str] = Field([], description="fixed prompts; empty: from validation")
    sample_steps: int = Field(20, ge=1)
    guidance_scale: float = Field(4.0, ge=1.0, description="of the sample sheets of `kd`")
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch's default")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _each_phase_once(self) -> DistillSection:
        order = [name for name in get_args(PhaseName) if name in self.phases]
        if self.phases != order:
            raise ValueError(f"`phases` must be some of {list(get_args(PhaseName))}, in this order")
        return self


class ExportSection(Section):
    precisions: list[str] = Field(
        [], description="precisions to export; empty: all that the target lists"
    )
    parity_prompts: int = Field(2, ge=1)


class BenchmarkSection(Section):
    suite: str = Field("starter", description="suite file, or the name of a shipped one")
    sampler: str | None = Field(
        None, description="of rows whose folders do not say theirs; null: as the suite says"
    )


# Bounds by name; null: not checked. Which names there are follows from the installed metrics.
Bounds = dict[str, Annotated[float, Field(gt=0)] | None]


class Recipe(Section):
    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    teacher: TeacherSection = TeacherSection()
    data: DataSection = DataSection()
    student: StudentSection = StudentSection()
    distill: DistillSection
    export: ExportSection = ExportSection()
    benchmark: BenchmarkSection = BenchmarkSection()
    quality_floor: Bounds = Field(
        {},
        description="of the export over the teacher: `max_fd_ratio`, `min_score_ratio`, ...",
    )


@dataclass(frozen=True)
class RowGeneration:
    """How one pipeline draws in a benchmark: diffusers' class of the sampler, steps, guidance."""

    sampler: str
    steps: int
    guidance_scale: float

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    def __str__(self) -> str:
        return f"{self.steps} steps of {self.sampler}, guidance {self.guidance_scale:g}"


def load_recipe(path: Path, assignments: list[str] | None = None) -> Recipe:
    """Load and validate a recipe file, with `--set` assignments applied."""
    where = f"recipe `{path}`" + (f" with {len(assignments)} overrides" if assignments else "")
    return validate(Recipe, override(load_yaml(path), assignments or []), where)
