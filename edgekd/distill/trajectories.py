"""A teacher's guided pictures with the way that led to them, drawn once and kept on disk.

One safetensors file for each `SHARD` trajectories of a split; N trajectories of a file, n steps
of the student, [C, h, w] latents:

    states   float16 [N, n + 1, C, h, w]: noise, latents at the borders of the student's steps
    rows     int64 [N]: the sample of the cache whose caption it is
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgekd.artifacts import Trajectories
from edgekd.data.dataset import SplitName
from edgekd.diffusion.load import Teacher
from edgekd.diffusion.weights import save_tensors
from edgekd.distill.batches import Latents
from edgekd.distill.conditions import caption_conditions, empty_conditions
from edgekd.distill.guidance import guided_prediction, least_guided
from edgekd.distill.objective import predict
from edgekd.distill.solver import Predict, dpm_solver, solve, teacher_timesteps
from edgekd.distill.sources import Sources
from edgekd.errors import GateError
from edgekd.file_record import finish
from edgekd.folders import finished, resumable_folder
from edgekd.parts import note_part
from edgekd.processes.pool import batch_threads, ordered_map
from edgekd.progress import Progress
from edgekd.recipe_distill import DistillSection
from edgekd.training.draws import generator, sample_indices
from edgekd.training.precision import autocast_dtype

SHARD = 128


class KeptTrajectories:
    """One split of a folder of trajectories, memory-mapped."""

    def __init__(self, shards: list[dict[str, Tensor]]) -> None:
        self._shards = shards

    @classmethod
    def load(cls, kept: Trajectories, split: SplitName) -> KeptTrajectories:
        from safetensors.torch import load_file

        return cls([load_file(path) for path in sorted(kept.root.glob(f"{split}-*.safetensors"))])

    def __len__(self) -> int:
        return sum(len(shard["rows"]) for shard in self._shards)

    def states(self, indices: Tensor) -> Tensor:
        """[B, n + 1, C, h, w] float32."""
        return self._gather("states", indices).float()

    def rows(self, indices: Tensor) -> Tensor:
        """[B] samples of the cache."""
        return self._gather("rows", indices)

    def batch(self, indices: Tensor) -> Tensor:
        """The pictures' scaled latents, [B, C, h, w] float32."""
        return self.states(indices)[:, -1]

    def _gather(self, name: str, indices: Tensor) -> Tensor:
        return torch.stack([self._shards[i // SHARD][name][i % SHARD] for i in indices.tolist()])


def draw_trajectories(
    section: DistillSection, sources: Sources, kept: Trajectories, progress: Progress
) -> None:
    """Draw what is missing of a folder of trajectories, on all cores.

    Captions are those of the cache, in the random order of the recipe's seed; the noise follows
    from the seed and a trajectory's number, so they are the same on any number of cores.

    Raises:
        InputError: steps that the teacher's schedule cannot take.
        GateError: the teacher's latents are not finite.
    """
    if finished(kept.root, kept.key, progress.info) is not None:
        return
    settings = section.few_step
    counts = settings.drawn
    with (
        resumable_folder(kept.root, kept.key) as partial,
        batch_threads(sources.teacher.device) as pool,
        progress.track("teacher's pictures", sum(counts.values())) as advance,
    ):
        for split in counts:
            latents = sources.train if split == "train" else sources.validation
            drawer = TrajectoryDrawer(section, sources.teacher, latents, split, sources.latent_size)
            for first in range(0, counts[split], SHARD):
                path = partial / f"{split}-{first // SHARD:05d}.safetensors"
                positions = range(first, min(first + SHARD, counts[split]))
                if not path.exists():
                    pieces = ordered_map(
                        pool, drawer.draw, _batches(positions, settings.batch_size), SHARD
                    )
                    _save([piece for _, piece in pieces], path)
                    note_part(partial, path)
                advance(len(positions))
        finish(partial, kept.key)


def _batches(positions: range, size: int) -> Iterator[tuple[range, range]]:
    for first in range(0, len(positions), size):
        batch = positions[first : first + size]
        yield batch, batch


def _save(pieces: list[dict[str, Tensor]], path: Path) -> None:
    save_tensors({name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}, path)


@dataclass(frozen=True)
class TrajectoryDrawer:
    """Draws trajectories of one split.

    Attributes:
        latent_size: side of the latents.
    """

    section: DistillSection
    teacher: Teacher
    latents: Latents
    split: str
    latent_size: int

    @torch.no_grad()
    def draw(self, positions: range) -> dict[str, Tensor]:
        """States and rows of the trajectories of these numbers."""
        teacher, settings, seed = self.teacher, self.section.few_step, self.section.seed
        timesteps = teacher.scheduler.config.num_train_timesteps
        steps = settings.student_steps
        rows = sample_indices(seed, positions, len(self.latents))
        shape = (teacher.info.latent_channels, self.latent_size, self.latent_size)
        sources = [generator(seed, f"trajectory/{self.split}", number) for number in positions]
        noise = torch.stack([torch.randn(shape, generator=source) for source in sources])
        visited = teacher_timesteps(timesteps, steps, settings.teacher_steps)
        solver = dpm_solver(teacher.scheduler, visited)
        states = solve(noise.to(teacher.device), self._predict(rows), solver, steps)
        if not torch.isfinite(states).all():
            raise GateError("the teacher's pictures must be finite", f"split `{self.split}`")
        return {"states": states.half().cpu(), "rows": rows}

    def _predict(self, rows: Tensor) -> Predict:
        """What the teacher predicts under the recipe's guidance."""
        teacher, settings = self.teacher, self.section.few_step
        scale = settings.guidance_scale
        least = least_guided(settings.guidance_stop, teacher.scheduler.config.num_train_timesteps)
        autocast = autocast_dtype(self.section.precision, teacher.device)
        said = caption_conditions(teacher, self.latents, rows, self.latent_size)
        empty = None
        if scale > 1:
            empty = empty_conditions(teacher, self.latents, len(rows), self.latent_size)

        def guided(latents: Tensor, timestep: int) -> Tensor:
            timesteps = torch.full((len(latents),), timestep, device=latents.device)
            batch = said.batch(latents, timesteps)
            if empty is None or timestep < least:
                return predict(teacher.unet, batch, autocast).float()
            return guided_prediction(teacher.unet, batch, empty, scale, autocast)

        return guided
