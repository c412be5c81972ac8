"""Parity: an export gives what torch gives in float32, or there is no export.

A part's parity is the signal-to-noise ratio of its outputs against torch's,

    SNR = 10 log10( sum ref^2 / sum (ref - out)^2 )  dB,

on inputs recorded along a real denoising trajectory. The worst call and the
worst output count, so that one bad timestep cannot hide among good ones.
Everything that is not a finite number at or above the floor is a failure.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgekd.errors import GateError
from edgekd.export.large import is_large
from edgekd.export.protocol import (
    ComponentRunner,
    Exporter,
    Floor,
    LoadsInTurns,
    OpensDeployed,
)
from edgekd.export.record import Arrays, Recording

Array = npt.NDArray[Any]

# Equal arrays have no noise at all; JSON has no infinity.
EXACT_DB = 200.0
# How far below its own floor a part may not be whose simulation is exact but for float32's noise,
# and where that noise begins.
NEAR_DB, NOISE_DB = 4.0, 70.0
# Where torch repeats a precision code by code, an export agrees with it to float32's noise. Of
# integers that it computes with, the noise moves one here and there: then every call must keep as
# much of the model as torch does, or this much. Figures: docs/export.md.
REPEATED_DB = 60.0


@dataclass(frozen=True)
class ComponentParity:
    """Parity of one part.

    Attributes:
        snr_db: worst over calls and outputs.
        floor_db, floor_reason: what it had to reach.
        executed_by: what computed the outputs.
        calls: each call's timestep (null for parts without), shape of its first input, and SNR.
        deployed_snr_db: the same where the runtime computes in another precision in deployment
            than in the check above; null where it does not.
        deployed_floor_db, deployed_executed_by: of that second check.
    """

    snr_db: float
    floor_db: float
    floor_reason: str
    executed_by: str
    calls: tuple[dict[str, Any], ...]
    deployed_snr_db: float | None = None
    deployed_floor_db: float | None = None
    deployed_executed_by: str | None = None


def snr_db(reference: Array, output: Array) -> float:
    """Signal-to-noise ratio in dB; 200 for equal arrays, NaN where either is not finite."""
    ref = reference.astype(np.float64)
    noise = float(np.sum((ref - output.astype(np.float64)) ** 2))
    signal = float(np.sum(ref**2))
    if not (math.isfinite(noise) and math.isfinite(signal)):
        return math.nan
    if noise == 0:
        return EXACT_DB
    return min(10 * math.log10(signal / noise), EXACT_DB) if signal > 0 else -EXACT_DB


@dataclass(frozen=True)
class ComponentGate:
    """What one part has to reach.

    Attributes:
        floor: of its precision.
        own: the floor of an honest export of this very part, asked where it is below the other,
            about the worst call: see `edgekd.export.simulate`; None: there is no such.
        near: torch computes this part almost as the runtime does: floats, with the weights that it
            restores. So the part must come near its own floor though it is above the other.
        repeated: what torch computes at these calls, or the first of them, code by code as the
            runtime does, with which the part must agree; None: torch cannot.
    """

    component: str
    precision: str
    floor: Floor
    own: Callable[[Recording], Floor | None] | None = None
    near: bool = False
    repeated: Callable[[list[Recording]], list[Arrays]] | None = None

    @property
    def where(self) -> str:
        return f"component={self.component}, precision={self.precision}"

    def hold(self, snr_db: float, worst: Recording) -> Floor:
        """The floor that the SNR of the worst call reaches.

        Raises:
            GateError: it reaches none. NaN does not.
        """
        above, own, near = snr_db >= self.floor.db, None, -math.inf
        near_own = self.near and self.repeated is None
        if self.own is not None and math.isfinite(snr_db) and (near_own or not above):
            own = self.own(worst)
        if near_own and own is not None:
            near = min(own.db - NEAR_DB, NOISE_DB)
        if above and snr_db >= near:
            return self.floor
        if own is not None and snr_db >= own.db:
            return own
        reason = f"The floor's reason: {self.floor.reason}."
        if own is not None:
            reason += f" Of this very model {own.db:.1f} dB would do: {own.reason}."
        raise GateError(
            f"parity of {self.where} must be at least floor_db={max(self.floor.db, near):.4g}",
            f"snr_db={snr_db:.2f}",
            reason,
        )

    def agree(self, recordings: list[Recording], outputs: list[Arrays]) -> None:
        """Hold a part's outputs at these calls against torch's.

        Raises:
            GateError: they are not its repetition.
        """
        if self.repeated is None:
            return
        # Of a large part torch computes fewer.
        for call, found, same in zip(recordings, outputs, self.repeated(recordings), strict=False):
            kept, repeated = _least(call.outputs, found), _least(call.outputs, same)
            apart = _least(same, found)
            agrees = kept >= min(repeated - NEAR_DB, REPEATED_DB)
            if apart >= REPEATED_DB if self.near else agrees:
                continue
            raise GateError(
                f"{self.where} must give what torch gives with the same rounding",
                f"{kept:.2f} dB of the model where torch keeps {repeated:.2f}, and {apart:.2f} dB "
                "between the two",
                "The export is damaged, or the runtime computes in another way than it says.",
            )


def _least(reference: Arrays, outputs: Arrays) -> float:
    """SNR of the worst output, of those that there are."""
    return min(snr_db(reference[name], found) for name, found in outputs.items())


def check_component(
    gate: ComponentGate, runner: ComponentRunner, recordings: list[Recording]
) -> ComponentParity:
    """Run one part on its recorded inputs and hold it against its floor.

    Raises:
        GateError: wrong names, shape or type, NaN, infinity, a constant output, or SNR below the
            floor; the message names part, precision, SNR and floor.
    """
    where = gate.where
    if not recordings:
        raise GateError("every part must be recorded at least once", where)
    names = (tuple(recordings[0].inputs), tuple(recordings[0].outputs))
    read = names[1]
    if runner.partial:
        read = tuple(name for name in names[1] if name in runner.outputs)
    if not read or (runner.inputs, runner.outputs) != (names[0], read):
        raise GateError(
            f"{where}: inputs and outputs must be {names[0]} -> {names[1]}",
            f"{runner.inputs} -> {runner.outputs}",
        )
    outputs = [_run(runner, recording.inputs, where) for recording in recordings]
    values = [
        _call_snr(recording, found, where)
        for recording, found in zip(recordings, outputs, strict=True)
    ]
    executed_by = runner.executed_by
    del runner  # torch may load the model now
    at = int(np.argmin(values))  # unlike min(), of NaN if any is NaN
    worst = values[at]
    floor = gate.hold(worst, recordings[at])
    gate.agree(recordings, outputs)
    calls = tuple(
        {
            "timestep": recording.timestep,
            "shape": list(next(iter(recording.inputs.values())).shape),
            "snr_db": round(value, 2),
        }
        for recording, value in zip(recordings, values, strict=True)
    )
    return ComponentParity(round(worst, 2), round(floor.db, 2), floor.reason, executed_by, calls)


def _call_snr(recording: Recording, outputs: Arrays, where: str) -> float:
    """SNR of one call, in dB: that of its worst output."""
    return float(
        np.min(
            [
                _output_snr(reference, outputs[name], f"{where}, output={name}")
                for name, reference in recording.outputs.items()
                if name in outputs  # all but those that a partial runner leaves out
            ]
        )
    )


def _run(runner: ComponentRunner, inputs: Arrays, where: str) -> Arrays:
    try:
        return runner(inputs)
    # onnxruntime and its like raise bare Exception subclasses of their own.
    except Exception as error:
        message = " ".join(str(error).split())
        raise GateError(f"{where} must run in its runtime", message[:300]) from error


def _output_snr(reference: Array, output: Array, where: str) -> float:
    if output.shape != reference.shape or output.dtype != reference.dtype:
        raise GateError(
            f"{where} must be {reference.dtype} of shape {reference.shape}",
            f"{output.dtype} of shape {output.shape}",
        )
    for name, array in (("torch's output", reference), ("the output", output)):
        if not np.isfinite(array).all():
            raise GateError(f"{where}: {name} must be finite", "NaN or infinity")
    if output.size > 1 and np.ptp(output) == 0:
        raise GateError(f"{where} must vary", f"the constant {output.flat[0]}")
    return snr_db(reference, output)


def check_deployed(
    gate: ComponentGate,
    parity: ComponentParity,
    exporter: Exporter,
    exported_path: Path,
    recordings: list[Recording],
) -> ComponentParity:
    """Add the second figure where the runtime computes in another precision in deployment.

    Args:
        gate: of this second figure.

    Raises:
        GateError: as `check_component`.
    """
    if not isinstance(exporter, OpensDeployed):
        return parity
    with _loading(exporter, gate.component):
        runner = exporter.open_deployed(exported_path, gate.component)
    deployed = check_component(gate, runner, recordings)
    return replace(
        parity,
        deployed_snr_db=deployed.snr_db,
        deployed_floor_db=deployed.floor_db,
        deployed_executed_by=deployed.executed_by,
    )


def load_for_parity(exporter: Exporter, exported_path: Path) -> Any:
    """The exported pipeline on as many threads as torch uses here; a large one's parts in turns."""
    if isinstance(exporter, LoadsInTurns) and is_large(exported_path):
        return exporter.load_in_turns(exported_path, torch.get_num_threads())
    return exporter.load(exported_path, torch.get_num_threads())


def open_component(exporter: Exporter, exported_path: Path, component: str) -> ComponentRunner:
    """Open a part; one that the runtime cannot load has failed its parity.

    Raises:
        GateError: the runtime refuses the part, or it is missing.
    """
    with _loading(exporter, component):
        return exporter.open_component(exported_path, component)


@contextlib.contextmanager
def _loading(exporter: Exporter, component: str) -> Iterator[None]:
    try:
        yield
    # As above: the runtime's own exceptions.
    except Exception as error:
        message = " ".join(str(error).split())
        raise GateError(
            f"component={component} must load in {exporter.name}", message[:300]
        ) from error
