"""What a host asks of a device: models by the hashes of their files, and what to measure."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edgekd.devices.names import MAX_FILES, problem_of_files
from edgekd.devices.reasons import plain

MAX_ROWS, MAX_GRAPHS, MAX_POINTS, MAX_PICTURES = 64, 256, 256, 64
_MAX_RUNS = 10_000


class Message(BaseModel):
    """Base of all messages: frozen, unknown names and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256")]
# Of another machine: it may end in a terminal.
Words: TypeAlias = Annotated[str, AfterValidator(plain)]
Label: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Threads: TypeAlias = Annotated[int, Field(ge=1, le=1024)]


class Files(Message):
    """A folder: the hash of each file by its path in the folder, with `/` between its parts."""

    files: dict[str, Digest] = Field(..., min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _plain(self) -> Files:
        problem = problem_of_files(self.files)
        if problem:
            raise ValueError(problem)
        return self


class PictureSettings(Message):
    """Pictures that an exported folder draws in one call: one for each caption, square."""

    captions: tuple[Annotated[str, Field(max_length=4000)], ...] = Field(
        ..., min_length=1, max_length=MAX_PICTURES
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=1 << 63)], ...] = Field(
        ..., min_length=1, max_length=MAX_PICTURES
    )
    side: int = Field(..., ge=1, le=1 << 13, description="pixels")
    sampler: str = Field(..., min_length=1, max_length=100)
    steps: int = Field(..., ge=1, le=1000)
    guidance_scale: float = Field(..., ge=0, le=1000)

    @model_validator(mode="after")
    def _a_seed_each(self) -> PictureSettings:
        if len(self.captions) != len(self.seeds):
            raise ValueError("`captions` and `seeds` must be of one length")
        return self


class SpeedSettings(Message):
    """See `edgekd.benchmark.suite.SpeedSection`."""

    warmup: int = Field(..., ge=0, le=_MAX_RUNS)
    component_runs: int = Field(..., ge=1, le=_MAX_RUNS)
    image_runs: int = Field(..., ge=1, le=_MAX_RUNS)
    busy_repeats: int = Field(..., ge=0, le=100)


class Point(Message):
    """A row, drawn otherwise: one place of a growth curve."""

    row: Label
    drawing: PictureSettings
    threads: Threads
    memory: bool = Field(..., description="its peak memory is measured too")


class ExportSettings(Message):
    """What is measured of exported folders.

    Attributes:
        threads: of the runtime, everywhere but in `points`.
        speed: latencies of pictures and components, all rows in turns in one process; null: none.
        memory: peak memory of a fresh process for each row.
        cold_starts: fresh processes for each row, each timed from its start to its first picture.
        points: each timed `point_runs` times, all in turns.
    """

    threads: Threads
    speed: SpeedSettings | None = None
    memory: bool = False
    cold_starts: int = Field(0, ge=0, le=100)
    points: tuple[Point, ...] = Field((), max_length=MAX_POINTS)
    point_runs: int = Field(1, ge=1, le=_MAX_RUNS)


class ExportRow(Files):
    """An exported folder, and what it draws."""

    drawing: PictureSettings


class ExportJob(Message):
    """Measure exported folders."""

    kind: Literal["export"] = "export"
    rows: dict[Label, ExportRow] = Field(..., min_length=1, max_length=MAX_ROWS)
    settings: ExportSettings

    @model_validator(mode="after")
    def _known_rows(self) -> ExportJob:
        unknown = {point.row for point in self.settings.points} - set(self.rows)
        if unknown:
            raise ValueError(f"`points` must be of the job's rows, but got {sorted(unknown)[0]!r}")
        return self


class GraphSettings(Message):
    """How graphs are timed: see `edgekd.measure.graph_timing.Rounds`."""

    runtime: Label
    precision: Label
    threads: Threads
    seconds: float = Field(..., gt=0, le=600)
    batches: int = Field(..., ge=1, le=100)
    known_well: float = Field(..., gt=0, le=1)


class GraphFiles(Files):
    """A converted graph: `<component>/<model>`, and `inputs.safetensors` with one call's inputs.

    Attributes:
        whole: a component of its own, timed in a fresh process with its memory; else a block.
    """

    component: Literal["unet", "vae_decoder", "text_encoder", "text_encoder_2"]
    whole: bool


class GraphJob(Message):
    """Time graphs, each in turns with the reference, which is a U-Net."""

    kind: Literal["graph"] = "graph"
    graphs: dict[Label, GraphFiles] = Field(..., min_length=1, max_length=MAX_GRAPHS)
    reference: Files
    settings: GraphSettings


class CheckJob(Message):
    """Time a known sleep and a fixed piece of work: whether the device's figures can be trusted."""

    kind: Literal["check"] = "check"
    threads: Threads = 1
    runs: int = Field(30, ge=1, le=1000)
    sleep_ms: float = Field(20.0, gt=0, le=1000)


Job: TypeAlias = Annotated[ExportJob | GraphJob | CheckJob, Field(discriminator="kind")]
