"""What the tasks of all three stages are made of."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from edgekd.teach.data import Corpus
from edgekd.teach.recipe import TeachRecipe
from edgekd.training.precision import autocast_dtype


@dataclass(frozen=True)
class TeachSetup:
    """The recipe, its images, and the device to train on."""

    recipe: TeachRecipe
    corpus: Corpus
    device: torch.device

    @property
    def dtype(self) -> torch.dtype | None:
        """What autocast computes in; None: fp32."""
        return autocast_dtype(self.recipe.precision, self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """A fresh autocast context of the recipe's precision."""
        dtype = self.dtype
        return torch.autocast(self.device.type, dtype or torch.float32, enabled=dtype is not None)
