"""`report.json`: every figure of a benchmark and all raw samples.

The page, Markdown and other tools read nothing else. `docs/report.schema.json` is its JSON schema:
`python -m edgekd.report.schema > docs/report.schema.json` writes it anew.

`schema_version` is raised when an older report could not be read any more, or a field of it means
something else. A field that is added has a default, which says what was so before it was there:
older reports are read as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import ConfigDict, Field

from edgekd.metrics.metric import Descriptor, Figure, Place
from edgekd.reading import read_json
from edgekd.recipe import RowGeneration
from edgekd.report.costs_schema import ColdStart, Energy, Memory, Scaling, Timing, TrainingCost
from edgekd.report.data_schema import DataRecord
from edgekd.report.features_schema import Embeddings, Nearness, Projection
from edgekd.report.part import Points, ReportPart
from edgekd.schema import validate
from edgekd.search.result import SearchResult

Curves = dict[str, dict[str, Points]]
HERE: Final = "this machine"


class Parity(ReportPart):
    """Worst SNR of an exported component to torch, and the floor it had to reach."""

    model_config = ConfigDict(extra="ignore")

    snr_db: float
    floor_db: float
    executed_by: str | None = None
    deployed_snr_db: float | None = None
    deployed_floor_db: float | None = None
    deployed_executed_by: str | None = None


class Difference(ReportPart):
    """Mean of paired differences and its standard error."""

    value: float
    error: float


class Agreement(ReportPart):
    """How alike two rows draw from the same noise.

    Attributes:
        row: the other row.
        psnr_db: median over pictures.
        ssim: structural similarity, mean over pictures.
        feature_cosine: mean over pictures.
        differences: of each metric that has a value for each picture.
    """

    row: str
    psnr_db: float
    ssim: float
    feature_cosine: float
    differences: dict[str, Difference]


class Row(ReportPart):
    """One pipeline in one runtime and precision.

    Attributes:
        model: name of the folder that was measured or exported; rows of one model share it.
        target: whose precision and options it was exported with; null: torch.
        device: where it ran.
        not_executed: why this machine cannot run it.
        evaluated: why its pictures were evaluated instead of executed.
        failed: what went wrong when it was made or measured.
        unmeasured: why nothing was tried: the run was stopped, or it was left out.
        generation: how its pictures were drawn; null where it was not executed.
        pictures_of: the row of this machine whose pictures and quality are also its; null: its own.
        figures: by metric; null where there is no value.
        to_teacher, to_student, to_torch: against the torch row of the teacher, that of the first
            student, and that of the folder that an export was made from.
        speed: by component, and `image` for whole pictures; empty: not measured.
    """

    name: str
    model: str
    role: Literal["teacher", "student"]
    runtime: str
    precision: str
    target: str | None = None
    device: str = HERE
    not_executed: str | None
    evaluated: str | None
    failed: str | None = None
    unmeasured: str | None = None
    generation: RowGeneration | None
    pictures_of: str | None = None
    component_parameters: dict[str, int]
    component_bytes: dict[str, int]
    stored_dtype: str | None
    parity: dict[str, Parity]
    figures: dict[str, Figure | None]
    to_teacher: Agreement | None = None
    to_student: Agreement | None = None
    to_torch: Agreement | None = None
    speed: dict[str, Timing] = Field(default_factory=dict)
    memory: Memory | None = None
    start: ColdStart | None = None
    energy: Energy | None = None

    @property
    def absent(self) -> str | None:
        """Why it has no pictures; None: it has."""
        return self.not_executed or self.failed or self.unmeasured

    @property
    def drawn(self) -> bool:
        return self.absent is None

    @property
    def busy(self) -> bool:
        """Whether other work held the cores to the end while it was timed."""
        return any(timing.busy for timing in self.speed.values())

    def value(self, metric: str) -> float | None:
        figure = self.figures.get(metric)
        return None if figure is None else figure.value


class HeadlineRows(ReportPart):
    teacher: str
    student: str | None


class TorchLatency(ReportPart):
    """What torch needs for one picture, where the deployed runtime is not here."""

    teacher: float
    student: float
    ratio: float


Values = dict[str, float | None]


class Headline(ReportPart):
    """One teacher row against one student row; values and ratios by metric."""

    teacher: Values
    student: Values | None
    ratios: Values | None
    rows: HeadlineRows
    evaluated: str | None = None
    torch_latency_ms: TorchLatency | None = None


class SuiteSpeed(ReportPart):
    threads: int
    warmup: int
    component_runs: int
    image_runs: int


class SuiteRecord(ReportPart):
    """What was asked for; see `edgekd.benchmark.suite`."""

    name: str
    description: str
    seed: int
    speed: SuiteSpeed | None
    memory: bool


class Cpu(ReportPart):
    model: str
    instruction_sets: list[str]


class Environment(ReportPart):
    cpu: Cpu
    cores: int
    ram_bytes: int
    os: str
    machine: str
    python: str
    versions: dict[str, str]
    governor: str | None = None
    temperature_c: float | None = None
    throttled: bool | None = None


class DeviceRecord(ReportPart):
    """Another machine that rows were measured on.

    Attributes:
        edgekd: its version there.
        load_average: before timing.
    """

    name: str
    device_class: str
    edgekd: str
    environment: Environment
    load_average: float | None


class Report(ReportPart):
    """Everything.

    Attributes:
        metrics: the headline.
        descriptors: the metrics, in the order that they are shown in.
        real: figures of real images, as many as `data.prompts_by_holdout` counts: the prompts' own,
            unless the suite has its own.
        extractor: what image features are of.
        search: that found the student; null: it was named.
        devices: the others that rows were measured on.
        nearness: of each row's picture features to the teacher's, by row.
        training: what its steps took, by phase of the students' training.
        partial: why not everything was measured; null: it was.
    """

    schema_version: Literal[3] = 3
    edgekd: str
    created: str
    suite: SuiteRecord
    environment: Environment
    load_average_before_timing: float | None
    data: DataRecord
    extractor: str
    descriptors: list[Descriptor]
    metrics: Headline
    real: dict[str, Figure | None]
    rows: list[Row]
    devices: list[DeviceRecord] = Field(default_factory=list)
    prompts: list[str]
    curves: Curves
    projections: list[Projection]
    nearness: dict[str, Nearness] = Field(default_factory=dict)
    embeddings: list[Embeddings] = Field(default_factory=list)
    scaling: list[Scaling] = Field(default_factory=list)
    training: dict[str, TrainingCost] = Field(default_factory=dict)
    search: SearchResult | None = None
    partial: str | None = None

    @property
    def here(self) -> Report:
        """The rows of this machine alone."""
        return self.model_copy(update={"rows": self._rows(HERE), "devices": []})

    def on(self, device: DeviceRecord) -> Report:
        """The rows of a device alone, and what they were measured on."""
        return self.model_copy(
            update={
                "rows": self._rows(device.name),
                "environment": device.environment,
                "load_average_before_timing": device.load_average,
            }
        )

    def _rows(self, device: str) -> list[Row]:
        return [row for row in self.rows if row.device == device]

    def shown(self, place: Place) -> list[Descriptor]:
        return [one for one in self.descriptors if one.shown(place)]


def read_report(path: Path) -> Report:
    """The report of a file.

    Raises:
        InputError: there is none, or it is of another version.
    """
    return validate(Report, read_json(path), f"`{path}`")


def json_schema() -> str:
    """The schema as `docs/report.schema.json` holds it."""
    return json.dumps(Report.model_json_schema(mode="serialization"), indent=0) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
