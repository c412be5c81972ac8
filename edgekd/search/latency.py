"""The cost of a candidate's picture, told from measurements of some graphs on the device.

    picture = text encoders + calls x U-Net + decoder

Text encoders and decoders are measured whole. There are too many U-Nets for that: the times of
their blocks (`edgekd.search.block_times`) are summed, and the sum corrected by what some whole
U-Nets took (`edgekd.search.correction`). Sizes of files and memory are straight lines over the
U-Net's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import Field

from edgekd.errors import InputError
from edgekd.schema import Section
from edgekd.search.block_times import F64, BlockTimes, relative_least_squares
from edgekd.search.blocks import Block
from edgekd.search.candidate import Candidate, Cost
from edgekd.search.correction import ChosenCorrection, choose
from edgekd.search.graphs import TeacherConfigs
from edgekd.search.measurements import Measurement
from edgekd.search.unet_work import PARAMETERS, UNetWork
from edgekd.student.arch import StudentArch
from edgekd.student.cost import vae_cost

_FLOAT32 = 4.0  # bytes
_NEAR = 0.1
_LEAST_NEAR = 0.95
_LEAST_RANK = 0.98
_LEAST_HELD_OUT = 8


class PredictorReport(Section):
    """How well the latency of whole U-Nets is told that the predictor was not fitted on."""

    held_out: int = Field(..., ge=0, description="U-Nets that the errors are of")
    measurements: int = Field(..., ge=0, description="graphs, of all kinds")
    median_error: float | None = Field(None, description="relative; null: nothing held out")
    p90_error: float | None = None
    within_10: float | None = Field(None, description="share of them that is within 10 percent")
    spearman: float | None = Field(None, description="correlation of the ranks")
    form: str = Field(..., description="of the correction")
    outliers: int = Field(0, ge=0, description="timed rounds that were left out")
    warnings: tuple[str, ...] = ()

    @property
    def poor(self) -> bool:
        """Whether more whole U-Nets should be measured."""
        return bool(self.warnings)


@dataclass(frozen=True)
class MeasuredSpace:
    """All measurements that a model is fitted on, in one setting of the target.

    Attributes:
        decoders: by the share of the teacher's width.
        left_out: what the budget did not reach, in words.
    """

    configs: TeacherConfigs
    blocks: Mapping[Block, Measurement]
    wholes: Mapping[StudentArch, Measurement]
    decoders: Mapping[float, Measurement]
    texts: Sequence[Measurement]
    left_out: tuple[str, ...] = ()

    @property
    def all(self) -> list[Measurement]:
        return [
            *self.blocks.values(), *self.wholes.values(), *self.decoders.values(), *self.texts,
        ]  # fmt: skip


@dataclass(frozen=True)
class UNetCost:
    """One pass of a U-Net: ms, bytes of its files, and of memory above the process' baseline."""

    latency_ms: float
    size_bytes: float
    own_bytes: float


@dataclass(frozen=True)
class LatencyModel:
    """Costs of candidates, in the setting that was measured."""

    measured: MeasuredSpace
    work: UNetWork
    chosen: ChosenCorrection
    report: PredictorReport
    _size: F64
    _memory: F64
    _known: dict[StudentArch, UNetCost] = field(default_factory=dict)
    _decoders: dict[float, Measurement] = field(default_factory=dict)

    @classmethod
    def fit(cls, measured: MeasuredSpace) -> LatencyModel:
        """Fit to all measurements.

        Raises:
            InputError: no decoder, no text encoder, or no block was measured.
        """
        if not (measured.decoders and measured.texts and measured.blocks):
            raise InputError("a decoder, the text encoders and blocks must be measured", "none")
        times = BlockTimes.fit({b: one.latency_ms for b, one in measured.blocks.items()})
        work = UNetWork(measured.configs, times)
        wholes = list(measured.wholes.values())
        rows = work.rows(list(measured.wholes))
        taken = np.array([one.latency_ms for one in wholes])
        chosen = choose(rows, taken)
        report = _report(measured, chosen, taken)
        sizes = np.array([float(one.file_bytes) for one in wholes])
        memory = np.array([float(max(one.peak_bytes - one.baseline_bytes, 1)) for one in wholes])
        size = _line(rows, sizes, _weight_bytes(measured.blocks))
        return cls(measured, work, chosen, report, size, _line(rows, memory, _FLOAT32))

    def predict(self, candidate: Candidate) -> Cost:
        """The cost of a candidate's picture."""
        unet = self.unet(candidate.arch)
        decoder, texts = self._decoder(candidate.decoder_width), self.measured.texts
        configs = self.measured.configs
        calls = candidate.steps + configs.extra_calls
        latency = calls * unet.latency_ms + decoder.latency_ms
        latency += configs.prompts * sum(one.latency_ms for one in texts)
        parts = (decoder, *texts)
        # Parts stay open once they are used: what each needs adds up.
        own = unet.own_bytes + sum(one.peak_bytes - one.baseline_bytes for one in parts)
        baseline = max(one.baseline_bytes for one in parts)
        size = unet.size_bytes + sum(one.file_bytes for one in parts)
        return Cost(latency, round(size), round(baseline + own))

    def with_decoder(self, width: float, found: Measurement) -> LatencyModel:
        """The model that knows one more decoder."""
        decoders = {**self.measured.decoders, width: found}
        return replace(self, measured=replace(self.measured, decoders=decoders), _decoders={})

    def unet(self, arch: StudentArch) -> UNetCost:
        """One pass of a candidate's U-Net."""
        if arch not in self._known:
            row = self.work.row(arch)
            line = np.array([1.0, row[PARAMETERS]])
            latency = float(self.chosen.correction(row[None])[0])
            size, memory = float(line @ self._size), float(line @ self._memory)
            self._known[arch] = UNetCost(latency, size, memory)
        return self._known[arch]

    def _decoder(self, width: float) -> Measurement:
        """As measured; a width that was not is scaled by its work from the nearest that was."""
        if width not in self._decoders:
            known = self.measured.decoders
            nearest = min(known, key=lambda one: abs(one - width))
            scale = self._decoder_work(width) / self._decoder_work(nearest)
            found = known[nearest]
            changed = {
                "latency_ms": found.latency_ms * scale,
                "file_bytes": round(found.file_bytes * scale),
            }
            self._decoders[width] = found.model_copy(update=changed if scale != 1 else {})
        return self._decoders[width]

    def _decoder_work(self, width: float) -> float:
        configs = self.measured.configs
        config = configs.decoder_graph(width).config
        assert config is not None
        return float(vae_cost(config, configs.latent_size)[1].macs)


def _weight_bytes(blocks: Mapping[Block, Measurement]) -> float:
    """Bytes that a weight takes in the files of blocks, their outlines included."""
    parameters = sum(block.sizes.parameters for block in blocks)
    return sum(one.file_bytes for one in blocks.values()) / parameters


def _line(rows: F64, values: F64, weight_bytes: float) -> F64:
    """a + b million parameters; through the origin where one measurement alone says how much, or
    none: then each takes `weight_bytes`."""
    if not len(values):
        return np.array([0.0, 1e6 * weight_bytes])
    line = np.column_stack([np.ones(len(rows)), rows[:, PARAMETERS]])
    if len(values) == 1:
        return np.array([0.0, values[0] / line[0, 1]])
    return relative_least_squares(line, values)


def errors(told: F64, taken: F64) -> dict[str, float]:
    """The figures of a report from predictions and measurements."""
    from scipy.stats import spearmanr

    relative = np.abs(told / taken - 1)
    rank = float(spearmanr(told, taken).statistic) if np.ptp(told) and np.ptp(taken) else 0.0
    return {
        "median_error": float(np.median(relative)),
        "p90_error": float(np.percentile(relative, 90)),
        "within_10": float((relative <= _NEAR).mean()),
        "spearman": rank,
    }


def _report(measured: MeasuredSpace, chosen: ChosenCorrection, taken: F64) -> PredictorReport:
    count = len(chosen.held_out)
    found = errors(chosen.held_out, taken) if count else {}
    warnings = list(measured.left_out)
    if count < _LEAST_HELD_OUT:
        warnings.append(f"the predictor's error is known on {count} whole U-Nets alone")
    if count and found["within_10"] < _LEAST_NEAR:
        warnings.append(
            f"{found['within_10']:.0%} of the held-out latencies are within 10 %, "
            f"{_LEAST_NEAR:.0%} should be"
        )
    if count and found["spearman"] < _LEAST_RANK:
        warnings.append(
            f"the held-out latencies' rank correlation is {found['spearman']:.3f}, "
            f"it should be {_LEAST_RANK}"
        )
    return PredictorReport(
        held_out=count,
        measurements=len(measured.all),
        form=chosen.form,
        outliers=sum(one.outliers for one in measured.all),
        warnings=tuple(warnings),
        **found,
    )
