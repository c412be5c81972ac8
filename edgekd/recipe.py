"""Schema of `configs/*.yaml`: the recipe of one `edgekd distill` run.

Every field has one meaning and one owner, the stage named by its section.
Unknown keys are errors, and so are values of the wrong type.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgekd.errors import InputError
from edgekd.progress import counted
from edgekd.recipe_distill import DistillSection
from edgekd.recipe_search import SearchSection
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
    aspect_buckets: bool = Field(
        False,
        description="training images keep near their shapes, at sizes of the square's area; "
        "validation images are square in any case",
    )
    bucket_step: int | None = Field(
        None,
        ge=8,
        description="divides the sides of aspect buckets; null: the VAE's factor times the U-Net's",
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
    """Which student is taught. Where nothing is said, one is searched for the target."""

    preset: str | None = Field(None, description="named architecture; full: the teacher's")
    arch: dict[str, Any] | None = Field(None, description="explicit StudentArch fields")
    candidate: dict[str, Any] | None = Field(
        None, description="a point of a search's front: architecture, decoder, steps, precision"
    )

    @model_validator(mode="after")
    def _at_most_one(self) -> StudentSection:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"one student must be given at most, but got {' and '.join(given)}")
        return self

    @property
    def searched(self) -> bool:
        """Whether a search decides."""
        return self == StudentSection()


class ExportSection(Section):
    precisions: list[str] = Field(
        [], description="precisions to export; empty: all that the target lists"
    )
    deploy: str | None = Field(
        None, description="precision that headline figures speak of; null: the target's"
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
    search: SearchSection = SearchSection()
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
        steps = counted(self.steps, "step")
        return f"{steps} of {self.sampler}, guidance {self.guidance_scale:g}"


def load_recipe(path: Path, assignments: list[str] | None = None) -> Recipe:
    """Load and validate a recipe file, with `--set` assignments applied."""
    where = f"recipe `{path}`" + (f" with {len(assignments)} overrides" if assignments else "")
    return validate(Recipe, override(load_yaml(path), assignments or []), where)
