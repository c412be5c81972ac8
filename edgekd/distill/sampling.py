"""Sample sheets: what teacher and student draw from the same prompts and the same noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgekd.diffusion.load import Teacher, make_pipeline, spare_memory
from edgekd.distill.batches import Latents
from edgekd.files import atomic_file
from edgekd.progress import counted
from edgekd.student.build import DrawingPlan
from edgekd.training.draws import generator

Pixels = npt.NDArray[np.uint8]
DEFAULT_PROMPTS = 8
_GAP = 4  # pixels between pictures
_BATCH = 4  # prompts drawn at once


def choose_prompts(asked: Sequence[str], latents: Latents) -> list[str]:
    """The recipe's, or different captions spread over a split; fewer where it has fewer."""
    return [*asked] or spread_captions(latents, DEFAULT_PROMPTS)


def spread_captions(latents: Latents, count: int) -> list[str]:
    """Different captions, spread over a split; fewer where the split has fewer."""
    stride = max(1, len(latents) // count)
    # Strides through the whole split first, then what they left out.
    order = sorted(range(len(latents)), key=lambda i: (i % stride, i))
    prompts: dict[str, None] = {}
    for i in order:
        caption = latents.captions(i)
        if caption:
            prompts[caption] = None
        if len(prompts) == count:
            break
    return list(prompts)


@dataclass(frozen=True)
class Sheet:
    """Pictures of the same prompts, from the same noise in each row.

    Attributes:
        picture: uint8 [H, W, 3].
        rows: what each row is, from the top.
    """

    picture: Pixels
    rows: tuple[str, ...]

    @property
    def pitch(self) -> int:
        """Pixels from the top of a row to the top of the next."""
        return (len(self.picture) + _GAP) // len(self.rows)


class SampleSheet:
    """Draws sheets: the teacher's row above the student's, one column for each prompt.

    Args:
        teacher: gives all components but the U-Net, and the first row.
        taught: how the teacher draws.
        drawings: how the student does, a row each.
        prompts: fixed prompts.
        latent_size: side of the latents that the student learns from.
        seed: of the noise.
    """

    def __init__(
        self,
        teacher: Teacher,
        taught: DrawingPlan,
        drawings: Sequence[DrawingPlan],
        prompts: Sequence[str],
        latent_size: int,
        seed: int,
    ) -> None:
        self._teacher, self._taught, self._drawings = teacher, taught, drawings
        self._prompts, self._seed = list(prompts), seed
        self._latent_size = latent_size
        self._first_row: list[Pixels] | None = None

    def draw(
        self, unet: Any, text_encoders: tuple[Any, ...] | None = None, rows: int | None = None
    ) -> Sheet:
        """The sheet of a student's U-Net.

        Args:
            text_encoders: the student's; None: they are the teacher's.
            rows: the first so many of the student's; None: all.
        """
        if self._first_row is None:
            self._first_row = self._generate(self._teacher, self._taught)
        texts = text_encoders or self._teacher.text_encoders
        student = replace(self._teacher, unet=unet, text_encoders=texts)
        drawings = self._drawings[:rows]
        drawn = [self._generate(student, drawing) for drawing in drawings]
        names = [f"student, {counted(drawing.steps, 'step')}" for drawing in drawings]
        teacher = f"teacher, {counted(self._taught.steps, 'step')}"
        return Sheet(grid([self._first_row, *drawn]), (teacher, *names))

    @torch.no_grad()
    def _generate(self, models: Teacher, drawing: DrawingPlan) -> list[Pixels]:
        pipeline = make_pipeline(replace(models, scheduler=drawing.scheduler))
        info = self._teacher.info
        shape = (info.latent_channels, self._latent_size, self._latent_size)
        side = self._latent_size * info.vae_scale_factor
        spare_memory(pipeline, side)
        pictures: list[Pixels] = []
        for first in range(0, len(self._prompts), _BATCH):
            prompts = self._prompts[first : first + _BATCH]
            sources = [
                generator(self._seed, "sheet", i) for i in range(first, first + len(prompts))
            ]
            noise = torch.stack([torch.randn(shape, generator=source) for source in sources])
            images = pipeline(
                prompt=prompts,
                latents=noise.to(self._teacher.device),
                height=side,
                width=side,
                # For schedulers that add noise at each step.
                generator=sources,
                num_inference_steps=drawing.steps,
                guidance_scale=drawing.guidance_scale,
                output_type="np",
            ).images
            pictures += [(image * 255).round().astype(np.uint8) for image in images]
        return pictures


def grid(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Pictures of one size, uint8 [h, w, 3], in rows on white with a small gap between."""
    h, w, _ = rows[0][0].shape
    height = len(rows) * (h + _GAP) - _GAP
    width = len(rows[0]) * (w + _GAP) - _GAP
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            sheet[r * (h + _GAP) : r * (h + _GAP) + h, c * (w + _GAP) : c * (w + _GAP) + w] = (
                picture
            )
    return sheet


def save_png(sheet: Sheet, path: Path) -> None:
    """Write a sheet whole or not at all; the texts `rows` and `pitch` in the file are JSON."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_text("rows", json.dumps(sheet.rows))
    said.add_text("pitch", json.dumps(sheet.pitch))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        Image.fromarray(sheet.picture).save(temporary, format="png", pnginfo=said)
