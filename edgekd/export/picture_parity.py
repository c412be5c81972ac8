"""Parity of whole pictures: an export draws torch's from the same noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.errors import GateError
from edgekd.export.parity import EXACT_DB, Array
from edgekd.export.protocol import Floor
from edgekd.export.record import Trajectory, draw


@dataclass(frozen=True)
class PictureParity:
    """Parity of whole pictures drawn from the same noise.

    Attributes:
        psnr_db: worst picture; peak 1.
        images_db: each picture's.
        size: height and width in pixels; null: the pipeline's own.
        other: at another size and batch, where the export has dynamic shapes.
    """

    psnr_db: float
    floor_db: float
    floor_reason: str
    images_db: tuple[float, ...]
    prompts: tuple[str, ...]
    steps: int
    guidance_scale: float
    seed: int
    size: tuple[int, int] | None
    images_per_prompt: int
    other: PictureParity | None


def psnr_db(reference: Array, output: Array) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0,1]; 200 for equal pictures."""
    error = float(np.mean((reference.astype(np.float64) - output.astype(np.float64)) ** 2))
    if not math.isfinite(error):
        return math.nan
    return min(-10 * math.log10(error), EXACT_DB) if error > 0 else EXACT_DB


def check_pictures(
    pipeline: Any, precision: str, trajectory: Trajectory, floor: Floor
) -> PictureParity:
    """Draw the trajectory's pictures with an exported pipeline, from the same noise.

    Raises:
        GateError: the pictures are NaN, constant, of another shape, or below the floor.
    """
    session = trajectory.session
    images = draw(pipeline, session)
    where = f"pictures, precision={precision}"
    if session.size is not None:
        where += f", size={session.size[0]}x{session.size[1]}"
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
            f"The floor's reason: {floor.reason}. Choose a finer precision, `--quantize auto`, or "
            "say with `--min-psnr` what is enough.",
        )
    other = trajectory.other
    return PictureParity(
        worst,
        floor.db,
        floor.reason,
        values,
        **session.model_dump(),
        other=None if other is None else check_pictures(pipeline, precision, other, floor),
    )
