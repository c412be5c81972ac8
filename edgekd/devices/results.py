"""Raw samples of a device, exactly as the measuring code of this machine returns them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from edgekd.devices.orders import Words


class Measured(BaseModel):
    """Base of all results."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Samples(Measured):
    """A `edgekd.measure.clock.Latency`, field by field."""

    samples_ms: tuple[float, ...]
    warmup_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...] = ()
    joules: tuple[float, ...] = ()
    repeats: int = 0
    busy: bool = False


class PeakBytes(Measured):
    """A `edgekd.measure.memory.PeakMemory`, field by field."""

    baseline_bytes: int
    peak_bytes: int
    loaded_bytes: int | None = None
    device_peak_bytes: int | None = None


class Spans(Measured):
    """Of a fresh process: milliseconds until the libraries are imported, from then until the models
    are loaded, and from then until the picture is drawn."""

    process_ms: float
    load_ms: float
    first_picture_ms: float


class RowResult(Measured):
    """What was measured of a row; what was not asked for is empty.

    Attributes:
        timings: `image`, and components as `edgekd.measure.speed` names them.
        failure: why the row cannot be drawn; nothing of it is measured then.
    """

    timings: dict[str, Samples] = {}
    memory: PeakBytes | None = None
    cold_starts: tuple[Spans, ...] = ()
    failure: Words | None = None


class PointResult(Measured):
    """What was measured of a point; `failure`: why it cannot be drawn."""

    samples_ms: tuple[float, ...] = ()
    peak_bytes: int | None = None
    failure: Words | None = None


class ExportResult(Measured):
    """Rows by name, points in their order, and what they were measured on.

    Attributes:
        energy_source: the counter of `joules`, or why there is none.
        throttled: whether the processor was slowed down for its heat; null: not readable.
    """

    kind: Literal["export"] = "export"
    environment: dict[str, JsonValue]
    load_average: float | None
    throttled: bool | None
    energy_source: Words
    rows: dict[str, RowResult]
    points: tuple[PointResult, ...] = ()


class GraphTimes(Measured):
    """A `edgekd.measure.graph_timing.TimedGraph`, field by field."""

    graph_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    baseline_bytes: int
    peak_bytes: int


class GraphResult(Measured):
    """A graph's times, or why there are none."""

    times: GraphTimes | None = None
    failure: Words | None = None


class GraphResults(Measured):
    """Graphs by name."""

    kind: Literal["graph"] = "graph"
    environment: dict[str, JsonValue]
    throttled: bool | None
    graphs: dict[str, GraphResult]


class CheckResult(Measured):
    """Samples of a sleep and of a fixed piece of work, and what slows the processor down."""

    kind: Literal["check"] = "check"
    environment: dict[str, JsonValue]
    sleep: Samples
    work: Samples
    load_average: float | None
    throttled: bool | None
    governor: Words | None
    temperature_c: float | None


Result: TypeAlias = Annotated[
    ExportResult | GraphResults | CheckResult, Field(discriminator="kind")
]
