"""What a report says of times, memory and energy."""

from __future__ import annotations

from typing import Literal

from edgekd.report.part import ReportPart


class Timing(ReportPart):
    """Times of one call: percentiles and every raw sample.

    Attributes:
        warmup_ms: the calls before; the first holds lazy loading and compilation.
        cpu_ms: processor time that the process itself spent in each sample.
        repeats: how often all samples were taken again because other work held the cores.
        busy: other work held them to the end: not to be trusted.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    samples_ms: list[float]
    warmup_ms: list[float]
    cpu_p50_ms: float | None
    cpu_ms: list[float]
    repeats: int = 0
    busy: bool = False


class Memory(ReportPart):
    """Resident memory of a fresh process that loads a row and draws one picture.

    Attributes:
        loaded_bytes: high-water mark when every part is loaded, before the first picture.
        device_peak_bytes: of the accelerator; null where there is none.
    """

    baseline_bytes: int
    loaded_bytes: int | None = None
    peak_bytes: int
    above_baseline_bytes: int
    device_peak_bytes: int | None = None


class ColdStart(ReportPart):
    """From the start of a fresh process to its first picture; every sample, and medians."""

    process_ms: float
    load_ms: float
    first_picture_ms: float
    total_ms: float
    samples_ms: list[float]


class Energy(ReportPart):
    """Joules of a picture, by a counter of the machine.

    Attributes:
        source: the counter, or why there is none (then `joules` is null).
    """

    joules: float | None
    source: str


class TrainingCost(ReportPart):
    """What one step of a phase of the training took, medians over its steps.

    Attributes:
        parts: seconds, by part of the step, in the order of work.
        peak_bytes: of the training process, or of its GPU; null: not measured.
    """

    samples_per_s: float
    parts: dict[str, float]
    peak_bytes: int | None


ScalingAxis = Literal["batch", "side", "steps", "threads"]


class Scaling(ReportPart):
    """How one row's cost grows along one axis.

    Attributes:
        values: of the axis: pictures, pixels of a side, denoising steps, threads.
        latency_ms: median of a call for all its pictures, by value.
        peak_bytes: of a fresh process, by value; null: not measured.
        draw_steps: denoising steps of each call; null: the axis itself.
        exponent: of the fitted power law `latency = c * value ** exponent`.
        r_squared: of that fit in logarithms.
    """

    row: str
    axis: ScalingAxis
    values: list[int]
    latency_ms: list[float]
    peak_bytes: list[int | None]
    draw_steps: int | None = None
    exponent: float
    r_squared: float
