"""Train a Stable Diffusion teacher from scratch: autoencoder, text encoder, U-Net.

Layout of a run folder:
    recipe.json           the resolved recipe
    vae/ text/ unet/      per stage: checkpoint.safetensors, metrics.jsonl; model/ when finished
    cache/                latents and image features of all renderings
    loss.png samples/     curves and sample sheets as training goes on
    teacher/              the pipeline folder: at the end, or at any time by `teach assemble`

With `start_from`, `vae/model` and `text/model` come from another teacher, and
the U-Net begins with its weights: see `edgekd.teach.start`.

A finished stage is kept while its inputs are the same. A killed stage goes on
from its checkpoint, also under a changed schedule (`train` of its section); the
U-Net also under changed captions, timesteps and loss weights. A checkpoint of
another structure is moved aside, never overwritten; under changed settings a
stage that has no step left to train is refused.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekd.artifacts import (
    ARTIFACT_FILE,
    atomic_folder,
    finish,
    finished,
    hash_value,
    open_run,
    write_json,
)
from edgekd.data.sources import check_sources
from edgekd.diffusion.validate import TeacherInfo
from edgekd.errors import InputError
from edgekd.progress import Progress, Silent
from edgekd.teach.assemble import (
    RECIPE_FILE,
    TEACHER,
    SampleSheets,
    assemble,
    load_text,
    load_vae,
    part_key,
    unet_structure,
)
from edgekd.teach.cache import Half, build_cache, feature_encoder, latent_encoder
from edgekd.teach.checkpoint import CHECKPOINT_FILE, Keys
from edgekd.teach.data import Corpus, load_corpus
from edgekd.teach.log import METRICS_FILE, read_metrics
from edgekd.teach.loop import Task, run_task
from edgekd.teach.plots import write_curves
from edgekd.teach.ranks import Ranks, device_of, run_ranks
from edgekd.teach.recipe import TeachRecipe, load_teach_recipe
from edgekd.teach.start import adopt_parts, find_start, take_weights
from edgekd.teach.text import build_tokenizer, make_text_task
from edgekd.teach.unet import make_unet_task
from edgekd.teach.vae import finish_vae, make_vae_task
from edgekd.training.cpu import training_cpu
from edgekd.training.precision import autocast_dtype, training_attention

STAGES = ("vae", "text", "unet")
CURVE_SECONDS = 300


@dataclass(frozen=True)
class Run:
    """What every stage needs to know."""

    recipe: TeachRecipe
    out: Path
    corpus: Corpus
    ranks: Ranks
    progress: Progress
    device: torch.device
    start: TeacherInfo | None

    @property
    def dtype(self) -> torch.dtype | None:
        """What autocast computes in; None: fp32."""
        return autocast_dtype(self.recipe.precision, self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """A fresh autocast context of the recipe's precision."""
        dtype = self.dtype
        return torch.autocast(self.device.type, dtype or torch.float32, enabled=dtype is not None)

    def train(self, task: Task, structure: list[Any], key: str) -> dict[str, nn.Module]:
        """Run a task in its folder; `key` is the hash of all that decides its result."""
        section = getattr(self.recipe, task.name).train
        keys = Keys(hash_value(structure), key)
        folder, minutes = self.out / task.name, self.recipe.checkpoint_minutes
        return run_task(task, section, folder, keys, self.ranks, self.progress, minutes)

    def draw_curves(self) -> None:
        """Refresh `loss.png`."""
        rows = {stage: read_metrics(self.out / stage / METRICS_FILE) for stage in STAGES}
        write_curves(rows, self.out / "loss.png")


class Watch:
    """What rank 0 draws at the rows of a stage: curves, and sheets where there are any."""

    def __init__(self, run: Run, steps: int, sheets: SampleSheets | None = None) -> None:
        self._run, self._steps, self._sheets = run, steps, sheets
        self._drawn = time.monotonic()

    def __call__(self, averaged: dict[str, nn.Module], step: int) -> None:
        last = step == self._steps
        if last or time.monotonic() - self._drawn >= CURVE_SECONDS:
            self._run.draw_curves()
            self._drawn = time.monotonic()
        if self._sheets is not None:
            self._sheets.watch(averaged, step, last)


def vae_stage(run: Run) -> None:
    """Train the autoencoder into `vae/model`."""
    recipe, model = run.recipe, run.out / "vae" / "model"
    structure = [
        "vae",
        run.corpus.key,
        recipe.data.resolution,
        recipe.data.augment.model_dump(exclude={"variants"}),
        recipe.vae.model_dump(exclude={"train"}),
        recipe.seed,
    ]
    key = hash_value([*structure, recipe.vae.train.model_dump()])
    if finished(model, key) is None:
        task = make_vae_task(recipe, run.corpus, run.device, run.autocast, model.parent)
        task.watch = Watch(run, recipe.vae.train.steps)
        vae: Any = run.train(task, structure, key)["vae"]
        if run.ranks.first:
            finish_vae(vae, run.corpus, recipe, run.device)
            with atomic_folder(model) as temporary:
                vae.save_pretrained(temporary)
                finish(temporary, key)
        run.ranks.wait()


def text_stage(run: Run) -> None:
    """Train the text encoder into `text/model`."""
    recipe, model = run.recipe, run.out / "text" / "model"
    data = recipe.data.model_dump(exclude={"sources"})
    structure = [
        "text",
        run.corpus.key,
        data,
        recipe.text.model_dump(exclude={"train"}),
        recipe.seed,
    ]
    key = hash_value([*structure, recipe.text.train.model_dump()])
    if finished(model, key) is None:
        encoder = feature_encoder(run.device)
        features = _cached(run, "features", hash_value([*structure[1:3], recipe.seed]), encoder)
        tokenizer = build_tokenizer(recipe.text)
        task = make_text_task(
            recipe, run.corpus, features, encoder, tokenizer, run.device, run.autocast
        )
        task.watch = Watch(run, recipe.text.train.steps)
        averaged: Any = run.train(task, structure, key)
        if run.ranks.first:
            with atomic_folder(model) as temporary:
                averaged["text_encoder"].save_pretrained(temporary / "text_encoder")
                tokenizer.save_pretrained(temporary / "tokenizer")
                finish(temporary, key)
        run.ranks.wait()


def unet_stage(run: Run) -> None:
    """Train the U-Net and assemble the teacher."""
    recipe, folder = run.recipe, run.out / "unet"
    structure = unet_structure(recipe, run.out)
    data = recipe.data.model_dump(exclude={"sources"})
    key = hash_value([*structure, run.corpus.key, data, recipe.unet.model_dump(), recipe.seed])
    if finished(folder, key) is not None and (run.out / TEACHER).is_dir():
        return
    vae = load_vae(run.out).to(run.device).eval().requires_grad_(False)
    encoder = latent_encoder(vae, run.device)
    augment = recipe.data.augment.model_dump()
    latents_key = hash_value([part_key(run.out, "vae"), run.corpus.key, augment, recipe.seed])
    latents = _cached(run, "latents", latents_key, encoder)
    text_encoder, tokenizer = load_text(run.out)
    task = make_unet_task(
        recipe,
        run.corpus,
        latents,
        vae.config.scaling_factor,
        encoder,
        text_encoder,
        tokenizer,
        run.device,
        run.autocast,
    )
    if run.start is not None:
        take_weights(task, run.start)
    sheets = SampleSheets(recipe.samples, run.out / "samples", vae, tokenizer, recipe.seed)
    task.watch = Watch(run, recipe.unet.train.steps, sheets)
    with training_attention(task.modules["unet"], run.device, run.dtype):
        run.train(task, structure, key)
    if run.ranks.first:
        assemble(recipe, run.out)
        finish(folder, key)


def _cached(run: Run, name: str, key: str, encoder: Any) -> Half:
    return build_cache(
        name, run.out / "cache", key, run.corpus, run.recipe, encoder, run.ranks, run.progress
    )


def _work(
    ranks: Ranks,
    recipe: TeachRecipe,
    out: Path,
    start: TeacherInfo | None,
    progress: Progress | None,
) -> None:
    spoken = progress if ranks.first and progress is not None else Silent()
    with training_cpu(recipe.threads):
        run = Run(recipe, out, load_corpus(recipe.data), ranks, spoken, device_of(ranks), start)
        if start is not None:
            adopt_parts(start, out, ranks)
        else:
            vae_stage(run)
            text_stage(run)
        unet_stage(run)


def teach(recipe: TeachRecipe, out: Path, progress: Progress) -> Path:
    """Train a teacher; continue where an earlier call with the same folder stopped.

    Returns:
        `out/teacher`, a diffusers pipeline folder.

    Raises:
        InputError: unusable sources or tokenizer, a `start_from` of another structure or inside
            `out`, no step left for changed settings, an unwritable or busy folder.
        GateError: a loss or its gradient is not finite.
    """
    check_sources(recipe.data.sources)
    build_tokenizer(recipe.text)
    start = find_start(recipe)
    if start is not None and start.path.resolve().is_relative_to(out.resolve()):
        # The run would replace what it begins from.
        raise InputError(
            "the teacher of `start_from` must lie outside the run folder",
            f"{start.path} in {out}",
            "Pass another `--out`.",
        )
    with open_run(out, (ARTIFACT_FILE, f"{Path(CHECKPOINT_FILE).stem}*")):
        write_json(out / RECIPE_FILE, recipe.model_dump(mode="json"))
        run_ranks(recipe.processes, _work, recipe, out, start, own=progress)
    return out / TEACHER


def run_teach(
    recipe_path: Path,
    assignments: list[str],
    out: Path,
    processes: int | None,
    progress: Progress,
) -> Path:
    """What `edgekd teach run` does: load the recipe, apply `--set` and `--processes`, teach.

    Returns:
        The pipeline folder.

    Raises:
        InputError, GateError: see `load_teach_recipe` and `teach`.
    """
    if processes is not None:
        assignments = [*assignments, f"processes={processes}"]
    return teach(load_teach_recipe(recipe_path, assignments), out, progress)
