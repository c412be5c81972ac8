"""Which parts of a teacher's recipe help: short runs, one thing changed in each.

`edgekd teach ablation SUITE`. Layout of the out folder:
    ablation.json, ablation.md   the rows
    variants/<name>/             a run of `edgekd teach run` each; a killed one goes on
    shared/                      finished autoencoders, text encoders and caches
    cache/                       pictures and features

A variant takes finished parts from `shared/` when all that decides them is the
same in its recipe. `edgekd teach run` checks them by its own content keys: a part
that does not fit is made anew.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from edgekd.benchmark.cache import Cache
from edgekd.diffusion.load import load_teacher
from edgekd.diffusion.validate import inspect_folder
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import hash_value, write_json, write_text
from edgekd.folders import atomic_folder
from edgekd.measure.environment import environment
from edgekd.processes.pool import Pool
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.report.schema import Environment
from edgekd.run_folder import check_place, open_run
from edgekd.schema import validate
from edgekd.teach.assemble import RECIPE_FILE
from edgekd.teach.cache import latent_encoder
from edgekd.teach.data import Corpus, load_corpus
from edgekd.teach.evaluation.ablation_markdown import ablation_markdown
from edgekd.teach.evaluation.ablation_schema import AblationResult, AblationRow
from edgekd.teach.evaluation.ablation_suite import (
    TeachAblation,
    TeachVariant,
    base_recipe,
    load_ablation,
    variant_recipe,
)
from edgekd.teach.evaluation.autoencoder import Autoencoder
from edgekd.teach.evaluation.card import stage_facts
from edgekd.teach.evaluation.extractor import ImageExtractor
from edgekd.teach.evaluation.figures import MetricTools, set_figures
from edgekd.teach.evaluation.label_gain import label_gains
from edgekd.teach.evaluation.pictures import TeacherSampler, open_pool, picture_requests
from edgekd.teach.evaluation.probes import fit_probes
from edgekd.teach.evaluation.prompts import check_corpus, held_out_set, known_set
from edgekd.teach.evaluation.schema import Settings
from edgekd.teach.noise import NoisePredictor
from edgekd.teach.recipe import TeachRecipe
from edgekd.teach.run import teach
from edgekd.teach.start import find_start
from edgekd.teach.unet import validation_batches, validation_losses
from edgekd.training.log import METRICS_FILE, read_rows

RESULT_FILE = "ablation.json"
NOT_WRITTEN = {"base": {"evaluate"}}  # `settings` has it
# For the number of workers that memory allows: the limit of a starter teacher.
TEACHER_BYTES = 36 * 10**6
# What may change while a variant is trained.
FREE = {"evaluate", "samples", "processes", "threads", "checkpoint_minutes"}


def part_keys(recipe: TeachRecipe) -> dict[str, str]:
    """Path of each part in a run folder -> hash of all that decides it."""
    data = recipe.data.model_dump(mode="json")
    images = {name: value for name, value in data.items() if name != "captions"}
    origin = [recipe.precision, recipe.processes, recipe.seed, recipe.start_from]
    vae = [images, recipe.vae.model_dump(mode="json"), origin]
    return {
        "vae/model": hash_value(["vae", *vae]),
        "cache/latents": hash_value(["latents", *vae]),
        "text/model": hash_value(["text", data, recipe.text.model_dump(mode="json"), origin]),
        "cache/features": hash_value(["features", data, recipe.seed]),
    }


def reuse_parts(shared: Path, run: Path, recipe: TeachRecipe) -> None:
    """Give a run the finished parts that fit its recipe; files are linked, not copied."""
    with open_run(run, "teach run"):
        for part, key in part_keys(recipe).items():
            if (shared / key).is_dir() and not (run / part).exists():
                _link_tree(shared / key, run / part)


def share_parts(shared: Path, run: Path, recipe: TeachRecipe) -> None:
    """Keep a finished run's parts for the next."""
    for part, key in part_keys(recipe).items():
        if (run / part).is_dir() and not (shared / key).exists():
            _link_tree(run / part, shared / key)


def _link_tree(source: Path, target: Path) -> None:
    # Safe, since no file of an artefact is ever changed in place. Its record comes with it.
    with atomic_folder(target) as temporary:
        (temporary / ARTIFACT_FILE).unlink()
        shutil.copytree(source, temporary, copy_function=os.link, dirs_exist_ok=True)


@dataclass(frozen=True)
class AblationContext:
    """What measures all variants: the base recipe's data, seed and loss."""

    suite: TeachAblation
    base: TeachRecipe
    corpus: Corpus
    tools: MetricTools
    cache: Cache
    pool: Pool
    progress: Progress


def run_ablation(
    suite_path: Path, recipe_path: Path, assignments: list[str], out: Path, progress: Progress
) -> AblationResult:
    """Train and measure every variant; returns what `ablation.json` holds.

    Raises:
        InputError: suite, recipe or data do not fit, a variant's folder of other settings, or an
            unwritable or busy folder.
        GateError: a loss, a picture or a feature is not finite.
    """
    suite = load_ablation(suite_path)
    base = base_recipe(suite, recipe_path, assignments)
    check_place(out, "teach ablation", sources=base.data.sources)
    recipes = {variant.name: variant_recipe(base, variant) for variant in suite.variants}
    for name, recipe in recipes.items():
        find_start(recipe)
        check_run(variant_folder(out, name), recipe)
    corpus = load_corpus(base.data)
    check_corpus(corpus, base)
    kept = ("shared", "cache")
    with open_run(out, "teach ablation", kept), open_pool(base, TEACHER_BYTES) as pool:
        shared = out / "shared"
        shared.mkdir(exist_ok=True)
        cache = Cache(out / "cache")
        probes, _ = fit_probes(corpus, base, cache)
        tools = MetricTools(ImageExtractor(cache), probes, base.evaluate)
        context = AblationContext(suite, base, corpus, tools, cache, pool, progress)
        rows = []
        for variant in suite.variants:
            progress.info(f"[variant {variant.name}] {variant.description}")
            run, recipe = variant_folder(out, variant.name), recipes[variant.name]
            reuse_parts(shared, run, recipe)
            teacher = teach(recipe, run, progress)
            share_parts(shared, run, recipe)
            rows.append(measure_variant(context, variant, run, teacher))
            result = _result(context, rows)
            write_json(out / RESULT_FILE, result.model_dump(mode="json", exclude=NOT_WRITTEN))
            write_text(out / "ablation.md", ablation_markdown(result))
    return result


def variant_folder(out: Path, name: str) -> Path:
    """The run folder of a variant."""
    return out / "variants" / name


def check_run(run: Path, recipe: TeachRecipe) -> None:
    """Refuse a variant's folder of other settings: training would go on from what these made.

    Raises:
        InputError: it is of others.
    """
    path = run / RECIPE_FILE
    if not path.is_file():
        return
    wanted = recipe.model_dump(mode="json", exclude=FREE)
    found = validate(TeachRecipe, read_json(path), f"`{path}`").model_dump(mode="json")
    others = [name for name in wanted if found[name] != wanted[name]]
    if others:
        raise InputError(
            "a variant's folder must be of the settings that are asked for",
            f"other {' and '.join(f'`{name}`' for name in others)} in {run}",
            "Pass another `--out`, or remove that folder.",
        )


def _result(context: AblationContext, rows: list[AblationRow]) -> AblationResult:
    return AblationResult(
        suite=context.suite,
        settings=Settings.of(context.base),
        base=context.base,
        rows=rows,
        environment=Environment.model_validate(environment()),
    )


def measure_variant(
    context: AblationContext, variant: TeachVariant, run: Path, teacher: Path
) -> AblationRow:
    """Validation losses and the figures of few pictures, of known pairs and of new styles."""
    info, base, corpus = inspect_folder(teacher), context.base, context.corpus
    sampler = TeacherSampler(teacher, info.key, base, context.cache, context.pool, context.progress)
    autoencoder = Autoencoder(teacher, info.key, context.cache)
    # Only the U-Net trains in every variant: the stages before it may be shared.
    section = variant_recipe(base, variant).unet.train
    training = stage_facts(read_rows(run / "unet" / METRICS_FILE), section)
    figures = {}
    for chosen in (known_set(corpus, base), held_out_set(corpus, base, "new_style")):
        label, scale = f"{run.name}, {chosen.kind}", context.suite.guidance_scale
        real, reference = chosen.real_images(base), chosen.reference_images(base)
        pictures = {
            "generated": sampler.draw(picture_requests(chosen.prompts), scale, label),
            "real": real,
            "autoencoder": autoencoder.reconstruct(real),
        }
        figures[chosen.kind] = set_figures(pictures, chosen, reference, context.tools)
    losses = common_losses(base, corpus, teacher)
    return AblationRow(
        name=variant.name,
        description=variant.description,
        images=training.images,
        steps=training.steps,
        hours=training.hours,
        validation_loss=losses.validation.get("validation_loss"),
        validation_group_loss=losses.validation.get("validation_group_loss"),
        label_gain=losses.label_gain,
        known=figures["known"],
        new_style=figures["new_style"],
    )


@dataclass(frozen=True)
class CommonLosses:
    """`validation`: see `validation_losses`; `label_gain`: by timestep."""

    validation: dict[str, float]
    label_gain: dict[str, float]


def common_losses(base: TeachRecipe, corpus: Corpus, teacher: Path) -> CommonLosses:
    """Validation losses and label gains of a teacher.

    Whatever loss it was trained with: variants are compared by these. Noise prediction with the
    base recipe's `min_snr_gamma`, uniform timesteps, no `low_snr_power`.
    """
    loaded = load_teacher(teacher)
    autocast = torch.autocast("cpu", enabled=False)
    predictor = NoisePredictor(base.unet.min_snr_gamma, 0.0, lambda: autocast)
    encode = latent_encoder(loaded.vae, loaded.device)
    scale = float(loaded.vae.config.scaling_factor)
    checks = validation_batches(base, corpus, scale, encode, loaded.tokenizers[0])
    modules = {"unet": loaded.unet, "text_encoder": loaded.text_encoders[0]}
    gains = label_gains(
        modules, predictor, base, corpus, scale, encode, loaded.tokenizers[0], loaded.device
    )
    losses = validation_losses(predictor, modules, checks, base, loaded.device)
    return CommonLosses(losses, gains)
