"""What a student learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from edgekd.artifacts import TeacherCache
from edgekd.diffusion.load import Teacher, load_teacher
from edgekd.distill.batches import Latents
from edgekd.errors import InputError


@dataclass(frozen=True)
class Sources:
    """What a student learns from: its teacher, and both splits of the teacher's cache."""

    teacher: Teacher
    train: Latents
    validation: Latents

    def check(self) -> None:
        """Raises InputError: a split is empty."""
        for name, split in (("training", self.train), ("validation", self.validation)):
            if len(split) == 0:
                raise InputError(f"the {name} split must have samples", "0")

    @property
    def latent_size(self) -> int:
        """Side of the square latents that are validated, drawn and deployed."""
        return int(self.validation.batch(torch.tensor([0])).mean.shape[-1])


class Source(Protocol):
    """Loads what a student learns from."""

    def load(self, device: torch.device) -> Sources:
        """The teacher on a device, and its cache."""


@dataclass(frozen=True)
class CachedTeacher:
    """A teacher's folder and its cache."""

    path: Path
    cache: TeacherCache

    def load(self, device: torch.device) -> Sources:
        """See `Source`.

        Raises:
            InputError: a cache of another teacher.
        """
        from edgekd.data.cache_writer import CachedLatents

        teacher = load_teacher(self.path, device=str(device))
        if self.cache.teacher_key != teacher.info.key:
            raise InputError("the cache must be of this teacher", f"{self.cache.root} of another")
        splits = (CachedLatents.load(self.cache, split) for split in ("train", "validation"))
        return Sources(teacher, *splits)
