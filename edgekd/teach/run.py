"""Train a Stable Diffusion teacher from scratch: autoencoder, text encoder, U-Net.

Layout of a run folder:
    recipe.json           the resolved recipe
    vae/ text/ unet/      per stage: checkpoints/, metrics.jsonl; model/ when finished
    cache/                latents and image features of all renderings
    loss.png samples/     curves and sample sheets as training goes on
    teacher/              the pipeline folder: at the end, or at any time by `teach assemble`

With `start_from`, `vae/model` and `text/model` come from another teacher, and
the U-Net begins with its weights: see `edgekd.teach.start`.

A finished stage is kept while its inputs are the same. A killed stage goes on
from its newest intact checkpoint, also under a changed schedule (`train` of its section); the
U-Net also under changed captions, timesteps and loss weights. Checkpoints of
another structure are moved aside, never overwritten; under changed settings a
stage that has no step left to train is refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from edgekd.data.sources import check_sources
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.diffusion.validate import TeacherInfo
from edgekd.file_record import ARTIFACT_FILE, finish
from edgekd.files import hash_value, write_json
from edgekd.folders import atomic_folder, finished
from edgekd.progress import Progress, Silent
from edgekd.run_folder import check_place, open_run
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
from edgekd.teach.cache import CacheFolder, Half, build_cache, feature_encoder, latent_encoder
from edgekd.teach.data import load_corpus
from edgekd.teach.loop import Keys, Place, Task, run_task
from edgekd.teach.plots import write_curves
from edgekd.teach.ranks import Ranks, device_of, run_ranks
from edgekd.teach.recipe import TeachRecipe, load_teach_recipe
from edgekd.teach.setup import TeachSetup
from edgekd.teach.start import adopt_parts, find_start, take_weights
from edgekd.teach.text import TextModel, build_tokenizer, make_text_task
from edgekd.teach.unet import LatentImages, make_unet_task
from edgekd.teach.vae import finish_vae, make_vae_task
from edgekd.training.cpu import training_cpu
from edgekd.training.log import METRICS_FILE, read_rows
from edgekd.training.precision import training_attention

STAGES = ("vae", "text", "unet")
CURVE_SECONDS = 300


@dataclass(frozen=True)
class Run:
    """What every stage needs to know."""

    setup: TeachSetup
    out: Path
    ranks: Ranks
    progress: Progress
    start: TeacherInfo | None

    def train(self, task: Task, structure: list[Any], key: str) -> dict[str, nn.Module]:
        """Run a task in its folder; `key` is the hash of all that decides its result."""
        recipe = self.setup.recipe
        place = Place(
            self.out / task.name,
            Keys(hash_value(structure), key),
            self.ranks,
            self.progress,
            recipe.checkpoint_minutes,
        )
        return run_task(task, getattr(recipe, task.name).train, place)

    def draw_curves(self) -> None:
        """Refresh `loss.png`."""
        rows = {stage: read_rows(self.out / stage / METRICS_FILE) for stage in STAGES}
        write_curves(rows, self.out / "loss.png")


class StageWatch:
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
    recipe, corpus, model = run.setup.recipe, run.setup.corpus, run.out / "vae" / "model"
    structure = [
        "vae",
        corpus.key,
        recipe.data.resolution,
        recipe.data.augment.model_dump(exclude={"variants"}),
        recipe.vae.model_dump(exclude={"train"}),
        recipe.seed,
    ]
    key = hash_value([*structure, recipe.vae.train.model_dump()])
    if finished(model, key, run.progress.info) is None:
        task = make_vae_task(run.setup, model.parent)
        task.watch = StageWatch(run, recipe.vae.train.steps)
        vae: Any = run.train(task, structure, key)["vae"]
        if run.ranks.first:
            finish_vae(vae, run.setup)
            with atomic_folder(model) as temporary:
                vae.save_pretrained(temporary)
                finish(temporary, key)
        run.ranks.wait()


def text_stage(run: Run) -> None:
    """Train the text encoder into `text/model`."""
    recipe, corpus, model = run.setup.recipe, run.setup.corpus, run.out / "text" / "model"
    data = recipe.data.model_dump(exclude={"sources"})
    structure = [
        "text",
        corpus.key,
        data,
        recipe.text.model_dump(exclude={"train"}),
        recipe.seed,
    ]
    key = hash_value([*structure, recipe.text.train.model_dump()])
    if finished(model, key, run.progress.info) is None:
        encoder = feature_encoder(run.setup.device)
        features = _cached(run, "features", hash_value([*structure[1:3], recipe.seed]), encoder)
        tokenizer = build_tokenizer(recipe.text)
        task = make_text_task(run.setup, features, encoder, tokenizer)
        task.watch = StageWatch(run, recipe.text.train.steps)
        averaged: Any = run.train(task, structure, key)
        if run.ranks.first:
            with atomic_folder(model) as temporary:
                averaged["text_encoder"].save_pretrained(temporary / "text_encoder")
                tokenizer.save_pretrained(temporary / "tokenizer")
                finish(temporary, key)
        run.ranks.wait()


def unet_stage(run: Run) -> None:
    """Train the U-Net and assemble the teacher."""
    recipe, corpus, folder = run.setup.recipe, run.setup.corpus, run.out / "unet"
    structure = unet_structure(recipe, run.out)
    data = recipe.data.model_dump(exclude={"sources"})
    key = hash_value([*structure, corpus.key, data, recipe.unet.model_dump(), recipe.seed])
    said = run.progress.info
    if (
        finished(folder, key, said) is not None
        and finished(run.out / TEACHER, "", said) is not None
    ):
        return
    vae = load_vae(run.out).to(run.setup.device).eval().requires_grad_(False)
    encoder = latent_encoder(vae, run.setup.device)
    augment = recipe.data.augment.model_dump()
    latents_key = hash_value([part_key(run.out, "vae"), corpus.key, augment, recipe.seed])
    cached = _cached(run, "latents", latents_key, encoder)
    latents = LatentImages(cached, vae.config.scaling_factor, encoder)
    text = TextModel(*load_text(run.out))
    task = make_unet_task(run.setup, latents, text)
    if run.start is not None:
        take_weights(task, run.start)
    sheets = SampleSheets(recipe.samples, run.out / "samples", vae, text.tokenizer, recipe.seed)
    task.watch = StageWatch(run, recipe.unet.train.steps, sheets)
    with training_attention(task.modules["unet"], run.setup.device, run.setup.dtype):
        run.train(task, structure, key)
    if run.ranks.first:
        assemble(recipe, run.out)
        finish(folder, key, only=(METRICS_FILE,))


def _cached(run: Run, name: str, key: str, encoder: Any) -> Half:
    folder = CacheFolder(run.out / "cache" / name, key)
    return build_cache(folder, run.setup, encoder, run.ranks, run.progress)


def _work(
    ranks: Ranks,
    recipe: TeachRecipe,
    out: Path,
    start: TeacherInfo | None,
    progress: Progress | None,
) -> None:
    spoken = progress if ranks.first and progress is not None else Silent()
    with training_cpu(recipe.threads):
        setup = TeachSetup(recipe, load_corpus(recipe.data), device_of(ranks))
        run = Run(setup, out, ranks, spoken, start)
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
    start_from = recipe.start_from and resolve_pipeline(recipe.start_from, "teacher")
    inputs = [("start_from", start_from)] if start_from else []
    check_place(out, "teach run", inputs, recipe.data.sources)
    check_sources(recipe.data)
    build_tokenizer(recipe.text)
    start = find_start(recipe)
    with open_run(out, "teach run", (ARTIFACT_FILE, "step-*")):
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
