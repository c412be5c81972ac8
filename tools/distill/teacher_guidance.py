"""What a teacher draws for its students: solver steps, guidance scale, and where guidance stops.

Trajectories of `few_step` end in these pictures, so a student comes no nearer to real images than
they are. Captions are spread over all that are held out (a report's are the first of them), and
each setting begins with the same noise.

    python -m tools.distill.teacher_guidance --run runs/starter 12:4:1 8:4:1 8:4:0.8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekd.benchmark.extract import Extractors, StarterExtractors
from edgekd.benchmark.prompts import iter_validation
from edgekd.distill.loop import make_accelerator
from edgekd.distill.sources import CachedTeacher, Sources
from edgekd.distill.trajectories import TrajectoryDrawer
from edgekd.errors import InputError
from edgekd.jobs.plan import at_resolution
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.teacher import checked_teacher, teacher_folder
from edgekd.libraries import diffusers
from edgekd.metrics.caption_fit import clip_score, halves
from edgekd.metrics.fid import fd
from edgekd.metrics.metric import Images
from edgekd.progress import console
from edgekd.recipe import Recipe, load_recipe
from edgekd.recipe_distill import DistillSection
from edgekd.resources import find_yaml
from edgekd.run_folder import open_run

_BATCH = 32


@dataclass(frozen=True)
class TeacherPictures:
    """Figures of one setting: U-Net passes of a picture, caption score and its error, FD."""

    passes: int
    score: float
    error: float
    fd: float

    @property
    def line(self) -> str:
        return f"{self.passes} passes, score {self.score:.1f} ± {self.error:.1f}, FD {self.fd:.0f}"


def measure(
    section: DistillSection, sources: Sources, real: Images, count: int, networks: Extractors
) -> TeacherPictures:
    """Draw `count` pictures as `few_step` of this section would have them, and measure them.

    Args:
        real: validation images, uint8 [N, H, W, 3]; those whose captions are not drawn are what FD
            is measured to.
    """
    captions, size = sources.validation, sources.latent_size
    drawer = TrajectoryDrawer(section, sources.teacher, captions, "validation", size)
    drawn = [
        drawer.draw(range(first, min(first + _BATCH, count))) for first in range(0, count, _BATCH)
    ]
    rows = torch.cat([batch["rows"] for batch in drawn]).tolist()
    pictures = np.concatenate([_decoded(sources, batch["states"][:, -1]) for batch in drawn])
    features, embeddings = _features(networks, pictures, [captions.captions(row) for row in rows])
    others = np.delete(real, rows, axis=0)
    reference, _ = _features(networks, others, [""] * len(others))
    scores = clip_score(*halves(embeddings))
    error = float(scores.std(ddof=1)) / count**0.5
    return TeacherPictures(
        section.few_step.teacher_passes, float(scores.mean()), error, fd(features, reference)
    )


@torch.no_grad()
def _decoded(sources: Sources, latents: torch.Tensor) -> Images:
    vae: Any = sources.teacher.vae
    scaled = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor
    processor = diffusers.image_processor.VaeImageProcessor()
    pictures = processor.postprocess(vae.decode(scaled).sample, output_type="np")
    return np.asarray(np.round(pictures * 255), dtype=np.uint8)


def _features(networks: Extractors, images: Images, captions: Sequence[str]) -> list[Any]:
    parts = [
        networks(images[first : first + _BATCH], captions[first : first + _BATCH])
        for first in range(0, len(images), _BATCH)
    ]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def settings(recipe: Recipe, asked: Sequence[str]) -> Iterator[tuple[str, DistillSection]]:
    """Sections of `STEPS:SCALE:STOP`.

    Raises:
        InputError: it is something else.
    """
    fields: dict[str, Callable[[str], Any]]
    fields = {"teacher_steps": int, "guidance_scale": float, "guidance_stop": float}
    for text in asked:
        try:
            parts = zip(fields.items(), text.split(":"), strict=True)
            changed = {name: read(part) for (name, read), part in parts}
            few_step = {**recipe.distill.few_step.model_dump(), **changed}
            values = {**recipe.distill.model_dump(), "few_step": few_step}
            yield text, DistillSection.model_validate(values)
        except ValueError as error:
            raise InputError("a setting must be STEPS:SCALE:STOP", f"{text}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What a teacher draws for its students.")
    parser.add_argument("settings", nargs="+", metavar="STEPS:SCALE:STOP")
    parser.add_argument("--config", default="starter", help="recipe")
    parser.add_argument("--run", type=Path, required=True, help="folder of prepared images")
    parser.add_argument("--samples", type=int, default=256)
    options = parser.parse_args(arguments)
    recipe = load_recipe(find_yaml("configs", options.config), [])
    asked = list(settings(recipe, options.settings))
    teacher = checked_teacher(teacher_folder(recipe, options.run))
    with open_run(options.run):
        sized = at_resolution(recipe, teacher)
        data, cache = prepare_data(sized, teacher.path, options.run, console())
    most = data.validation - 2
    if not 2 <= options.samples <= most:
        raise InputError(f"`2 <= --samples <= {most}` must hold", str(options.samples))
    sources = CachedTeacher(teacher.path, cache).load(make_accelerator().device)
    networks = StarterExtractors()
    real = np.concatenate([images for _, images in iter_validation(data, _BATCH)])
    for text, section in asked:
        found = measure(section, sources, real, options.samples, networks)
        print(f"{text}: {found.line}", flush=True)


if __name__ == "__main__":
    main()
