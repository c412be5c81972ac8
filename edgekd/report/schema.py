"""`report.json`: every figure of a benchmark and all raw samples.

The page, Markdown and other tools read nothing else. `docs/report.schema.json` is its JSON schema:
`python -m edgekd.report.schema > docs/report.schema.json` writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd.metrics.metric import Descriptor, Figure, Place
from edgekd.reading import read_json
from edgekd.recipe import RowGeneration
from edgekd.schema import validate
from edgekd.search.result import SearchResult

Points = list[tuple[float, float]]
Curves = dict[str, dict[str, Points]]


class ReportPart(BaseModel):
    """A part of the report: no field but its own, and no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Timing(ReportPart):
    """Times of one call: percentiles and every raw sample.

    Attributes:
        warmup_ms: the calls before; the first holds lazy loading and compilation.
        cpu_ms: processor time that the process itself spent in each sample.
    """

    p50_ms: float
    p90_ms: float
    samples_ms: list[float]
    warmup_ms: list[float]
    cpu_p50_ms: float | None
    cpu_ms: list[float]


class Memory(ReportPart):
    """Resident memory of a fresh process that loads a row and draws one picture."""

    baseline_bytes: int
    peak_bytes: int
    above_baseline_bytes: int


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
        differences: of each metric that has a value for each picture.
    """

    row: str
    psnr_db: float
    feature_cosine: float
    differences: dict[str, Difference]


class Row(ReportPart):
    """One pipeline in one runtime and precision.

    Attributes:
        generation: how its pictures were drawn; null where it was not executed.
        figures: by metric; null where there is no value.
        to_teacher, to_student, to_torch: against the torch row of the teacher, that of the first
            student, and that of the folder that an export was made from.
        speed: by component, and `image` for whole pictures; empty: not measured.
    """

    name: str
    role: Literal["teacher", "student"]
    runtime: str
    precision: str
    not_executed: str | None
    evaluated: str | None
    generation: RowGeneration | None
    component_parameters: dict[str, int]
    component_bytes: dict[str, int]
    stored_dtype: str | None
    parity: dict[str, Parity]
    figures: dict[str, Figure | None]
    to_teacher: Agreement | None = None
    to_student: Agreement | None = None
    to_torch: Agreement | None = None
    speed: dict[str, Timing] = {}
    memory: Memory | None = None

    @property
    def drawn(self) -> bool:
        return self.not_executed is None

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


class DataRecord(ReportPart):
    key: str
    resolution: int
    validation: int
    prompts: int
    prompts_by_holdout: dict[str, int]
    reference: int


class Projection(ReportPart):
    """Image features in two dimensions, by set."""

    method: str
    points: dict[str, Points]


class Report(ReportPart):
    """Everything.

    Attributes:
        metrics: the headline.
        descriptors: the metrics, in the order that they are shown in.
        real: figures of the prompts' own images.
        extractor: what image features are of.
        search: that found the student; null: it was named.
    """

    schema_version: Literal[2] = 2
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
    prompts: list[str]
    curves: Curves
    projection: Projection
    search: SearchResult | None = None

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
    return json.dumps(Report.model_json_schema(mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
