"""Whether a metric of a row changed by more than noise; see `docs/benchmark.md`, Comparing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekd.metrics.metric import Descriptor, Figure
from edgekd.report.comparison import Change, Verdict
from edgekd.report.ratios import metric_ratio, ratio, same_storage
from edgekd.report.schema import Row
from edgekd.report.statistics import (
    Estimate,
    intervals_apart,
    median_ratio,
    paired_difference,
    welch_difference,
)

# Medians of whole runs differ by this on one machine, however sure the samples of each run are.
RUN_TO_RUN = 0.05
BUSY = "timed on a busy machine, not to be trusted"
OTHER_IMAGES = "held against other real images"
NO_INTERVAL = "not comparable: values of a set without an interval"
# One value each, without a spread: resident memory of two equal runs differs by about as much.
ONE_VALUE = 0.02


@dataclass(frozen=True)
class RowFigure:
    """One metric of one row in one report."""

    metric: Descriptor
    row: Row

    @property
    def figure(self) -> Figure | None:
        return self.row.figures.get(self.metric.name)

    @property
    def picture_samples(self) -> list[float]:
        """A value for each picture, where the figure is their mean."""
        found = self.figure
        if found is None or not found.samples or len(found.samples) < 2:
            return []
        mean = sum(found.samples) / len(found.samples)
        return found.samples if math.isclose(mean, found.value, rel_tol=1e-6) else []

    @property
    def of_sets(self) -> bool:
        """Whether it holds the pictures as a set against real images: no picture has a value."""
        found = self.figure
        return self.metric.source == "pictures" and found is not None and not found.samples

    @property
    def times(self) -> list[float]:
        """The raw samples whose median the figure is."""
        found = self.figure
        image, start = self.row.speed.get("image"), self.row.start
        kept = [(image.p50_ms, image.samples_ms)] if image else []
        kept += [(start.total_ms, start.samples_ms)] if start else []
        for median, samples in kept:
            if found is not None and found.value == median and len(samples) > 1:
                return samples
        return []

    @property
    def busy(self) -> bool:
        return self.metric.source == "latency" and self.row.busy


def change(first: RowFigure, last: RowFigure, values: list[float | None], paired: bool) -> Change:
    """The verdict on the last report's value against the first's.

    Args:
        values: of all reports, for the record.
        paired: both rows drew the same prompts from the same noise.
    """
    metric = last.metric
    made = Change(metric=metric.name, values=values, verdict="no value", test="no value in both")
    a, b = first.figure, last.figure
    if a is None or b is None:
        return made
    names = [one.metric.full_name or one.metric.name for one in (first, last)]
    if names[0] != names[1]:
        text = f"not comparable: {names[0]}, {names[1]}"
        update = {"names": tuple(names), "verdict": "not comparable", "test": text}
        return made.model_copy(update=update)
    if not paired and (first.of_sets or last.of_sets):
        text = f"not comparable: {OTHER_IMAGES}"
        return made.model_copy(update={"verdict": "not comparable", "test": text})
    if metric.per_stored_type and not same_storage(last.row, first.row):
        kinds = [str(one.row.stored_dtype or one.row.precision) for one in (first, last)]
        text = f"not comparable: stored as {kinds[0]}, as {kinds[1]}"
        return made.model_copy(update={"verdict": "not comparable", "test": text})
    made = made.model_copy(update={"ratio": metric_ratio(metric, last.row, first.row)})
    return _tested(made, first, last, paired)


def _tested(made: Change, first: RowFigure, last: RowFigure, paired: bool) -> Change:
    """With the strongest test that the samples allow."""
    a, b = first.figure, last.figure
    assert a is not None
    assert b is not None
    times, samples = (first.times, last.times), (first.picture_samples, last.picture_samples)
    if first.metric.source == "latency" and all(times):
        return _by_medians(made, first, last)
    if first.busy or last.busy:
        return _judged(made, first.metric, 0, BUSY)
    if first.metric.source == "pictures" and all(samples):
        return _by_pictures(made, first.metric, samples, paired)
    apart = intervals_apart((a.low, a.high), (b.low, b.high))
    if apart is not None:
        sign = math.copysign(1, b.value - a.value) if apart else 0
        words = "do not meet" if apart else "overlap"
        return _judged(made, first.metric, sign, f"95 % intervals {words}")
    if a.error is not None and b.error is not None:
        error = math.hypot(a.error, b.error)
        value, half = b.value - a.value, 1.96 * error
        found = Estimate(value, value - half, value + half, error)
        return _by_difference(made, first.metric, found, "both errors, normal")
    if first.of_sets and a.value != b.value:
        return made.model_copy(update={"verdict": "not comparable", "test": NO_INTERVAL})
    return _by_one_value(made, first.metric, a.value, b.value)


def _by_medians(made: Change, first: RowFigure, last: RowFigure) -> Change:
    found = median_ratio(first.times, last.times)
    test = f"ratio of medians by bootstrap, n={len(first.times)} and {len(last.times)}"
    made = made.model_copy(
        update={"interval_of": "ratio", "low": found.low, "high": found.high, "ratio": found.value}
    )
    sign = math.copysign(1, found.value - 1) if not found.low <= 1 <= found.high else 0
    if abs(found.value - 1) <= RUN_TO_RUN:
        sign, test = 0, f"{test}; within {RUN_TO_RUN:.0%} from run to run".replace("%", " %")
    if first.busy or last.busy:
        sign, test = 0, f"{test}; {BUSY}"
    return _judged(made, first.metric, sign, test)


def _by_pictures(
    made: Change, metric: Descriptor, samples: tuple[list[float], list[float]], paired: bool
) -> Change:
    a, b = samples
    if paired and len(a) == len(b):
        return _by_difference(made, metric, paired_difference(a, b), f"paired, n={len(a)}")
    test = f"Welch, n={len(a)} and {len(b)}"
    return _by_difference(made, metric, welch_difference(a, b), test)


def _by_difference(made: Change, metric: Descriptor, found: Estimate, test: str) -> Change:
    interval = {"interval_of": "difference", "low": found.low, "high": found.high}
    sign = math.copysign(1, found.value) if not found.low <= 0 <= found.high else 0
    shown = [f"{metric.scale * one:.3g}" for one in (found.value, found.error or 0.0)]
    text = f"{test}: {shown[0]} ± {shown[1]}"
    return _judged(made.model_copy(update=interval), metric, sign, text)


def _by_one_value(made: Change, metric: Descriptor, a: float, b: float) -> Change:
    if metric.source == "files":
        exact = _judged(made, metric, (b > a) - (b < a), "exact")
        return exact.model_copy(update={"verdict": "same"}) if a == b else exact
    share = ratio(b, a)
    noise = RUN_TO_RUN if metric.source in ("latency", "energy") else ONE_VALUE
    near = a == b or (share is not None and abs(share - 1) <= noise)
    test = f"one value each, equal within {100 * noise:g} %"
    return _judged(made, metric, 0 if near else (b > a) - (b < a), test)


def _judged(made: Change, metric: Descriptor, sign: float, test: str) -> Change:
    """A verdict from the sign of a change that is more than noise; 0: it is not."""
    better = (sign < 0) == (metric.direction == "lower")
    verdict: Verdict = "same within noise" if sign == 0 else "better" if better else "worse"
    return made.model_copy(update={"verdict": verdict, "test": test})


def sides(
    rows: Sequence[Row | None], metrics: Sequence[Descriptor | None]
) -> list[RowFigure | None]:
    """By report; None where it lacks the row or the metric."""
    return [
        RowFigure(metric, row) if row is not None and metric is not None else None
        for row, metric in zip(rows, metrics, strict=True)
    ]
