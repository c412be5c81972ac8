"""What pictures cost on a search's target: measured here, in its runtime or one in its place, or on
devices of one class."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.benchmark.graph_cost import open_measure
from edgekd.devices.connect import Connected, check_threads
from edgekd.errors import InputError
from edgekd.files import hash_value
from edgekd.jobs.matrix import not_executed_here
from edgekd.jobs.plan import Plan
from edgekd.progress import Progress
from edgekd.search.campaign import MeasureBudget, measure_space
from edgekd.search.candidate import Candidate, Cost
from edgekd.search.choice import TeacherPoint
from edgekd.search.graphs import Graph, Measure, TeacherConfigs
from edgekd.search.latency import LatencyModel, PredictorReport
from edgekd.search.measurements import (
    Conditions,
    Measurement,
    MeasurementStore,
    conditions_here,
)

if TYPE_CHECKING:
    from edgekd.search.space import SearchSpace
    from edgekd.student.arch import StudentArch

# What stands in for a runtime that does not exist on this machine: it is everywhere.
STAND_IN = ("onnx", "fp32")
_STAND_IN_BITS = 32  # of a weight in its files
_MOST_MEASUREMENTS = 60


@dataclass(frozen=True)
class TimingPlace:
    """Where candidates are timed.

    Attributes:
        runtimes: runtime and precision that each precision of a candidate is timed in.
        stand_in_for: the target's runtime, where that is another; else None.
        bits_per_weight: by precision, where another runtime stands in: what sizes are computed
            from. Empty: files are measured.
        store: folder of the measurements.
        devices: of one class, which share the work; empty: this machine.
    """

    runtimes: Mapping[str, tuple[str, str]]
    threads: int
    stand_in_for: str | None
    bits_per_weight: Mapping[str, float]
    store: Path
    devices: tuple[Connected, ...] = ()

    @property
    def runtime(self) -> str:
        return next(iter(self.runtimes.values()))[0]

    @property
    def conditions(self) -> list[Conditions]:
        """What measurements here hold for."""
        found = dict.fromkeys(self.runtimes.values())
        return [self.conditions_of(runtime, own) for runtime, own in found]

    def conditions_of(self, runtime: str, precision: str) -> Conditions:
        """What measurements in one of its runtimes hold for.

        Raises:
            InputError: see `edgekd.benchmark.device_graphs.device_conditions`.
        """
        if not self.devices:
            return conditions_here(runtime, precision, self.threads)
        from edgekd.benchmark.device_graphs import device_conditions

        return device_conditions(self.devices, runtime, precision, self.threads)

    @property
    def together(self) -> int:
        """Graphs that are handed over at once."""
        from edgekd.benchmark.device_graphs import PER_DEVICE

        return PER_DEVICE * len(self.devices) or 1


def place_of(plan: Plan, precisions: Sequence[str], store: Path) -> TimingPlace:
    """Where a plan's candidates are timed: on its devices, which must run the target's runtime, or
    here, in it or in one that stands in for it.

    Raises:
        InputError: devices of several classes, or that do not run it, or not on so many threads.
    """
    target, threads = plan.target, plan.recipe.search.threads
    absent = not plan.devices and bool(not_executed_here(target.runtime))
    runtimes = {name: STAND_IN if absent else (target.runtime, name) for name in precisions}
    stand_in_for = target.runtime if absent else None
    bits = _bits_per_weight(target.runtime, precisions) if absent else {}
    place = TimingPlace(runtimes, threads, stand_in_for, bits, store, plan.devices)
    if plan.devices:
        one_class(plan.devices)
        check_threads(plan.devices, threads, "search.threads")
        _ = place.conditions  # raises, if they cannot be
    return place


def _bits_per_weight(runtime: str, precisions: Sequence[str]) -> dict[str, float]:
    from edgekd.export.protocol import MayOnlyEvaluate
    from edgekd.export.registry import get_exporter

    exporter = get_exporter(runtime)
    assert isinstance(exporter, MayOnlyEvaluate)
    return {name: exporter.bits_per_weight(name) for name in precisions}


@dataclass(frozen=True)
class ComputedSizes:
    """A `Measure` in a stand-in, whose float32 files are weighed as if the target had written them:
    times and memory are the stand-in's."""

    measure: Measure
    bits_per_weight: float

    def __call__(self, graphs: Sequence[Graph]) -> list[Measurement]:
        share = self.bits_per_weight / _STAND_IN_BITS
        return [
            one.model_copy(update={"file_bytes": round(share * one.file_bytes)})
            for one in self.measure(graphs)
        ]


def one_class(devices: Sequence[Connected]) -> str:
    """The class of devices that share the work.

    Raises:
        InputError: they are of several.
    """
    classes = dict.fromkeys(one.device_class for one in devices)
    if len(classes) > 1:
        found = ", ".join(f"`{one.name}` of {one.device_class}" for one in devices)
        raise InputError(
            "one student is searched for devices of one class",
            found,
            "`edgekd search` finds one for each class.",
        )
    return next(iter(classes))


@dataclass(frozen=True)
class PictureCosts:
    """The costs of all candidates, by their precision."""

    models: Mapping[str, LatencyModel]

    def predict(self, candidate: Candidate) -> Cost:
        return self.models[candidate.precision].predict(candidate)

    @property
    def key(self) -> str:
        """Hash of the measurements that costs are told from."""
        of = {name: one.measured.all for name, one in self.models.items()}
        return hash_value({n: [[x.latency_ms, x.file_bytes] for x in of[n]] for n in of})

    def unet_bytes(self, arch: StudentArch) -> float:
        """Size of a U-Net's files, in the first precision."""
        return next(iter(self.models.values())).unet(arch).size_bytes

    @property
    def worst(self) -> str:
        """The precision whose latencies are told worst; the first of several alike."""
        return max(self.models, key=lambda name: _badness(self.models[name].report))

    @property
    def report(self) -> PredictorReport:
        """How well latencies are told in the precision where that is worst, with the warnings of
        all."""
        found = self.models[self.worst].report
        if len(self.models) == 1:
            return found
        warnings = tuple(
            f"{name}: {one}" for name, model in self.models.items() for one in model.report.warnings
        )
        return found.model_copy(update={"warnings": warnings})


def _badness(report: PredictorReport) -> tuple[bool, float, float]:
    """Greater is worse: an error that is not known, then a small share within 10 %, then the 90th
    percentile."""
    if report.within_10 is None or report.p90_error is None:
        return True, 0.0, 0.0
    return False, -report.within_10, report.p90_error


class CostMeter:
    """Measures what a search asks for; processes and temporary files live as long as it is open."""

    def __init__(self, place: TimingPlace, measures: Mapping[str, Measure]) -> None:
        self._place, self._measures = place, measures

    def fit(
        self,
        space: SearchSpace,
        configs: TeacherConfigs,
        budget: MeasureBudget,
        seed: int,
        progress: Progress,
    ) -> PictureCosts:
        """Measure what the space is made of, within a budget shared by all precisions."""
        import numpy as np

        count = len(self._measures)
        own = replace(budget, seconds=budget.seconds / count)
        models = {}
        for precision, measure in self._measures.items():
            rng = np.random.default_rng(seed)
            sample = (space.sample(rng) for _ in range(_SAMPLE))
            candidates = (one.model_copy(update={"precision": precision}) for one in sample)
            models[precision] = measure_space(candidates, configs, measure, own, progress)
        return PictureCosts(models)

    def unet(self, configs: TeacherConfigs, candidate: Candidate) -> Measurement:
        """One pass of a candidate's own U-Net."""
        (found,) = self._measures[candidate.precision]([configs.unet_graph(candidate)])
        return found

    def whole(self, costs: PictureCosts, candidate: Candidate) -> Cost:
        """The cost of a candidate with its own U-Net measured, and its decoder, if no decoder of
        this width was."""
        model, width = costs.models[candidate.precision], candidate.decoder_width
        configs, known = model.measured.configs, model.measured.decoders
        graphs = [configs.unet_graph(candidate)]
        graphs += [configs.decoder_graph(width)] if width not in known else []
        found, *decoders = self._measures[candidate.precision](graphs)
        for decoder in decoders:
            model = model.with_decoder(width, decoder)
        told = model.predict(candidate)
        expected = model.unet(candidate.arch)
        calls = candidate.steps + configs.extra_calls
        passes = calls * (found.latency_ms - expected.latency_ms)
        own = found.peak_bytes - found.baseline_bytes - expected.own_bytes
        return Cost(
            told.latency_ms + passes,
            round(told.size_bytes + found.file_bytes - expected.size_bytes),
            round(told.peak_bytes + own),
        )

    def teacher(self, configs: TeacherConfigs, full: Candidate, guided: bool) -> TeacherPoint:
        """The teacher as it draws: `full.steps` steps, guided or not, in `full`'s precision."""
        own = configs.model_copy(update={"guided": guided, "text_depth": 1.0})
        graphs = [*own.text_graphs(), own.decoder_graph(1.0), own.unet_graph(full)]
        *texts, decoder, unet = self._measures[full.precision](graphs)
        prompts = own.prompts * sum(one.latency_ms for one in texts)
        calls = full.steps + own.extra_calls
        latency = prompts + calls * unet.latency_ms + decoder.latency_ms
        size = sum(one.file_bytes for one in (*texts, decoder, unet))
        return TeacherPoint(latency, size, configs.unet)


# Candidates that the choice of graphs looks at.
_SAMPLE = 512


@contextlib.contextmanager
def open_meter(place: TimingPlace) -> Iterator[CostMeter]:
    """A meter for a place; what its store knows is not measured again."""
    with contextlib.ExitStack() as stack:
        measures: dict[str, Measure] = {
            name: stack.enter_context(_open_measure(place, runtime, own))
            for name, (runtime, own) in place.runtimes.items()
        }
        for name, bits in place.bits_per_weight.items():
            measures[name] = ComputedSizes(measures[name], bits)
        yield CostMeter(place, measures)


def _open_measure(
    place: TimingPlace, runtime: str, precision: str
) -> contextlib.AbstractContextManager[Measure]:
    if not place.devices:
        return open_measure(place.store, runtime, precision, place.threads)
    from edgekd.benchmark.device_graphs import open_device_measure

    store = MeasurementStore(place.store, place.conditions_of(runtime, precision))
    return open_device_measure(store, place.devices)


def budget_of(plan: Plan, share: float, together: int) -> MeasureBudget:
    """What a recipe allows to measure, in a share of its seconds.

    Args:
        together: graphs that are handed over at once.
    """
    section = plan.recipe.search
    seconds = share * section.seconds
    return MeasureBudget(seconds, section.whole_unets, _MOST_MEASUREMENTS, together)
