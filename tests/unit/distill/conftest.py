"""Small cached latents with seeded random content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.distill.folder import RunFolder
from edgekd.distill.sources import Sources
from edgekd.progress import Silent
from edgekd.recipe import DistillSection


@dataclass
class Rows:
    mean: torch.Tensor
    logvar: torch.Tensor
    encoder_hidden_states: torch.Tensor
    pooled: torch.Tensor | None
    time_ids: torch.Tensor | None


class RandomLatents:
    """What `CachedLatents` offers, in memory."""

    def __init__(self, teacher: Any, count: int, seed: int) -> None:
        from edgekd.diffusion.encode import encode_prompts

        source = torch.Generator().manual_seed(seed)
        info = teacher.info
        shape = (count, info.latent_channels, info.latent_size, info.latent_size)
        self.mean = torch.randn(shape, generator=source)
        self.logvar = torch.randn(shape, generator=source) - 4
        self.text = encode_prompts(teacher, ["", "a red apple", "a blue car", "a green tree"])
        self.indices = 1 + torch.arange(count) % 3
        self.sdxl = info.family == "sdxl"

    def __len__(self) -> int:
        return len(self.mean)

    def batch(self, indices: torch.Tensor) -> Rows:
        captions = self.indices[indices]
        pooled = self.text.pooled
        return Rows(
            self.mean[indices],
            self.logvar[indices],
            self.text.encoder_hidden_states[captions],
            None if pooled is None else pooled[captions],
            torch.tensor([[32.0, 32, 0, 0, 32, 32]]).repeat(len(indices), 1) if self.sdxl else None,
        )

    def empty(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        pooled = self.text.pooled
        return self.text.encoder_hidden_states[:1], None if pooled is None else pooled[:1]

    def captions(self, i: int) -> str:
        return ["", "a red apple", "a blue car", "a green tree"][int(self.indices[i])]


SMALL = {
    "steps": 4,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "checkpoint_every": 2,
    "validate_every": 2,
    "validation_samples": 4,
    "sample_prompts": ["a red apple"],
    "sample_steps": 2,
}


@dataclass
class Bench:
    """A teacher with its cached latents, and the way to train on them."""

    teacher: Any
    train: RandomLatents
    validation: RandomLatents

    def section(self, **changes: Any) -> DistillSection:
        return DistillSection.model_validate({**SMALL, **changes})

    def arch(self, name: str = "bk-sdm-small") -> Any:
        from edgekd.student.resolve import preset

        return preset(name, dict(self.teacher.unet.config))

    def load(self, device: torch.device) -> Sources:
        return Sources(self.teacher, self.train, self.validation)

    def trainer(self, out: Path, key: str = "key", **changes: Any) -> Any:
        from edgekd.distill.loop import make_accelerator
        from edgekd.distill.trainer import Trainer

        section = self.section(**changes)
        accelerator = make_accelerator(section)
        sources = self.load(accelerator.device)
        return Trainer(section, self.arch(), sources, RunFolder(out, key), accelerator)

    def run(self, out: Path, key: str = "key", **changes: Any) -> Any:
        from edgekd.distill.loop import distill

        folder = RunFolder(out, key)
        return distill(self.section(**changes), self.arch(), self, folder, Silent())


@pytest.fixture(scope="session")
def make_bench() -> Callable[[Path], Bench]:
    from edgekd.diffusion.load import load_teacher

    def make(path: Path) -> Bench:
        teacher = load_teacher(path)
        return Bench(teacher, RandomLatents(teacher, 12, 0), RandomLatents(teacher, 6, 1))

    return make


@pytest.fixture(scope="session")
def bench(make_bench: Callable[[Path], Bench], tiny_teacher: Path) -> Bench:
    return make_bench(tiny_teacher)
