"""Parity: an export gives what torch gives in float32, or there is no export.

A part's parity is the signal-to-noise ratio of its outputs against torch's,

    SNR = 10 log10( sum ref^2 / sum (ref - out)^2 )  dB,

on inputs recorded along a real denoising trajectory. The worst call and the
worst output count, so that one bad timestep cannot hide among good ones.
Everything that is not a finite number at or above the floor is a failure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgekd.errors import GateError, InputError
from edgekd.export.protocol import ComponentRunner, Exporter, Floor, Generation
from edgekd.export.record import Arrays, Recording, Trajectory, draw, record_denoising_inputs

Array = npt.NDArray[Any]

# Equal arrays have no noise at all; JSON has no infinity.
EXACT_DB = 200.0
# A denoising trajectory from pure noise to the picture in this many steps: every noise level is
# there, and a large model is not run more often than that.
PARITY_STEPS = 8


@dataclass(frozen=True)
class ComponentParity:
    """Parity of one part.

    Attributes:
        snr_db: worst over calls and outputs.
        floor_db, floor_reason: what it had to reach.
        executed_by: what computed the outputs.
        calls: each call's timestep (null for parts without) and SNR.
    """

    snr_db: float
    floor_db: float
    floor_reason: str
    executed_by: str
    calls: tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class PictureParity:
    """Parity of whole pictures drawn from the same noise.

    Attributes:
        psnr_db: worst picture; peak 1.
        images_db: each prompt's.
    """

    psnr_db: float
    floor_db: float
    floor_reason: str
    images_db: tuple[float, ...]
    prompts: tuple[str, ...]
    steps: int
    guidance_scale: float
    seed: int


@dataclass(frozen=True)
class ParityReport:
    """Parity of an exported folder."""

    components: dict[str, ComponentParity]
    pictures: PictureParity


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


def psnr_db(reference: Array, output: Array) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0,1]; 200 for equal pictures."""
    error = float(np.mean((reference.astype(np.float64) - output.astype(np.float64)) ** 2))
    if not math.isfinite(error):
        return math.nan
    return min(-10 * math.log10(error), EXACT_DB) if error > 0 else EXACT_DB


def check_component(
    component: str,
    precision: str,
    runner: ComponentRunner,
    recordings: list[Recording],
    floor: Floor,
) -> ComponentParity:
    """Run one part on its recorded inputs and hold it against its floor.

    Raises:
        GateError: wrong names, shape or type, NaN, infinity, a constant output, or SNR below the
            floor; the message names part, precision, SNR and floor.
    """
    where = f"component={component}, precision={precision}"
    if not recordings:
        raise GateError("every part must be recorded at least once", where)
    names = (tuple(recordings[0].inputs), tuple(recordings[0].outputs))
    if (runner.inputs, runner.outputs) != names:
        raise GateError(
            f"{where}: inputs and outputs must be {names[0]} -> {names[1]}",
            f"{runner.inputs} -> {runner.outputs}",
        )
    values = [_call_snr(runner, recording, where) for recording in recordings]
    worst = float(np.min(values))  # unlike min(), NaN if any is NaN
    # Written so that NaN fails.
    if not worst >= floor.db:
        raise GateError(
            f"parity of {where} must be at least floor_db={floor.db:g}",
            f"snr_db={worst:.2f}",
            f"The floor's reason: {floor.reason}.",
        )
    calls: tuple[dict[str, float | None], ...] = tuple(
        {"timestep": recording.timestep, "snr_db": round(value, 2)}
        for recording, value in zip(recordings, values, strict=True)
    )
    return ComponentParity(round(worst, 2), floor.db, floor.reason, runner.executed_by, calls)


def _call_snr(runner: ComponentRunner, recording: Recording, where: str) -> float:
    """SNR of one call, in dB: that of its worst output."""
    outputs = _run(runner, recording.inputs, where)
    return float(
        np.min(
            [
                _output_snr(reference, outputs[name], f"{where}, output={name}")
                for name, reference in recording.outputs.items()
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


def check_pictures(
    pipeline: Any, precision: str, trajectory: Trajectory, floor: Floor
) -> PictureParity:
    """Draw the trajectory's pictures with an exported pipeline, from the same noise.

    Raises:
        GateError: the pictures are NaN, constant, of another shape, or below the floor.
    """
    images = draw(
        pipeline,
        trajectory.prompts,
        trajectory.steps,
        trajectory.guidance_scale,
        trajectory.seed,
    )
    where = f"pictures, precision={precision}"
    if images.shape != trajectory.images.shape:
        raise GateError(
            f"{where} must have shape {trajectory.images.shape}", f"shape {images.shape}"
        )
    for image in images:
        if not np.isfinite(image).all() or np.ptp(image) == 0:
            raise GateError(f"{where} must be finite and vary", "NaN, infinity or one colour")
    values = tuple(
        round(psnr_db(ref, image), 2) for ref, image in zip(trajectory.images, images, strict=True)
    )
    worst = float(np.min(values))
    if not worst >= floor.db:
        raise GateError(
            f"parity of {where} must be at least floor_db={floor.db:g}",
            f"psnr_db={worst:.2f}",
            f"The floor's reason: {floor.reason}.",
        )
    return PictureParity(
        worst,
        floor.db,
        floor.reason,
        values,
        trajectory.prompts,
        trajectory.steps,
        trajectory.guidance_scale,
        trajectory.seed,
    )


def record_for_parity(
    pipeline: Any, prompts: list[str], generation: Generation, seed: int = 0
) -> Trajectory:
    """The trajectory that parity is measured on.

    Raises:
        InputError: no prompts.
    """
    if not prompts:
        raise InputError("parity needs at least one prompt", "none")
    steps = min(generation.steps, PARITY_STEPS)
    return record_denoising_inputs(pipeline, prompts, steps, generation.guidance_scale, seed)


def check_parity(
    pipeline_path: Path,
    exported_path: Path,
    precision: str,
    exporter: Exporter,
    prompts: list[str],
    generation: Generation | None = None,
    trajectory: Trajectory | None = None,
) -> ParityReport:
    """Check a finished folder against the diffusers pipeline that it came from.

    Args:
        pipeline_path: the source, a diffusers pipeline folder.
        exported_path: what an exporter wrote.
        precision: sets the floors.
        trajectory: recordings of the source; None: it is loaded and recorded here.

    Raises:
        GateError: see `check_component` and `check_pictures`; also a part that is missing.
    """
    from edgekd.teacher.load import load_pipeline

    if trajectory is None:
        trajectory = record_for_parity(
            load_pipeline(pipeline_path), prompts, generation or Generation()
        )
    components = {}
    for component, recordings in trajectory.recordings.items():
        runner = open_component(exporter, exported_path, component)
        floor = exporter.component_floor(component, precision)
        components[component] = check_component(component, precision, runner, recordings, floor)
    pictures = check_pictures(
        load_for_parity(exporter, exported_path),
        precision,
        trajectory,
        exporter.picture_floor(precision),
    )
    return ParityReport(components, pictures)


def load_for_parity(exporter: Exporter, exported_path: Path) -> Any:
    """The exported pipeline on as many threads as torch uses here."""
    return exporter.load(exported_path, torch.get_num_threads())


def open_component(exporter: Exporter, exported_path: Path, component: str) -> ComponentRunner:
    """Open a part; one that the runtime cannot load has failed its parity.

    Raises:
        GateError: the runtime refuses the part, or it is missing.
    """
    try:
        return exporter.open_component(exported_path, component)
    # As above: the runtime's own exceptions.
    except Exception as error:
        message = " ".join(str(error).split())
        raise GateError(
            f"component={component} must load in {exporter.name}", message[:300]
        ) from error
