"""Evaluate a teacher: `edgekd teach evaluate`.

Layout of the out folder:
    evaluation.json   every figure, with counts, seeds and environment
    evaluation.md     the same for people, with the pictures beside it
    *.png             sample sheet, guidance sweep, nearest training images, worst cases
    cache/            pictures and features by content: a killed run goes on
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.benchmark.cache import Cache
from edgekd.benchmark.facts import component_parameters, folder_bytes
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.diffusion.validate import TeacherInfo, inspect_folder
from edgekd.errors import InputError
from edgekd.files import write_json
from edgekd.measure.environment import environment
from edgekd.metrics.fid import fd_name
from edgekd.metrics.kid import kid_name
from edgekd.progress import Progress
from edgekd.report.schema import Environment
from edgekd.run_folder import check_place, open_run
from edgekd.teach.data import WHITE, Corpus, load_corpus
from edgekd.teach.evaluation import copying, sheets
from edgekd.teach.evaluation.autoencoder import Autoencoder, measure_autoencoder
from edgekd.teach.evaluation.extractor import ImageExtractor
from edgekd.teach.evaluation.figures import MetricTools, own_scores, set_figures
from edgekd.teach.evaluation.images import Images
from edgekd.teach.evaluation.markdown import write_markdown
from edgekd.teach.evaluation.pictures import (
    PictureRequest,
    TeacherSampler,
    open_pool,
    picture_requests,
)
from edgekd.teach.evaluation.probes import fit_probes
from edgekd.teach.evaluation.prompts import (
    HELD_OUT,
    SHEET_NOISE,
    PromptSet,
    check_corpus,
    choose_sheet,
    held_out_set,
    known_set,
    sweep_set,
)
from edgekd.teach.evaluation.schema import (
    Ceilings,
    Copying,
    DataFacts,
    EvaluationResult,
    LowestPicture,
    MetricNames,
    NamedSetFigures,
    NearestFigures,
    PromptedNearestFigures,
    Sets,
    Settings,
    TeacherFacts,
)
from edgekd.teach.evaluation.sweep import sweep
from edgekd.teach.evaluation.targets import check_targets
from edgekd.teach.recipe import Kind, TeachRecipe, load_teach_recipe

EVALUATION_FILE = "evaluation.json"
LOWEST = 32


@dataclass(frozen=True)
class EvaluationRun:
    """What all parts of one evaluation share."""

    recipe: TeachRecipe
    corpus: Corpus
    sampler: TeacherSampler
    autoencoder: Autoencoder
    tools: MetricTools
    out: Path

    @property
    def extractor(self) -> ImageExtractor:
        return self.tools.extractor


def run_evaluate(
    recipe_path: Path, assignments: list[str], teacher: str, out: Path, progress: Progress
) -> EvaluationResult:
    """What `edgekd teach evaluate` does; returns what `evaluation.json` holds.

    Raises:
        InputError: recipe, data or teacher do not fit, or an unwritable or busy folder.
        GateError: a picture or a feature is not finite.
    """
    recipe = load_teach_recipe(recipe_path, assignments)
    return evaluate(recipe, resolve_pipeline(teacher, "teacher"), out, progress)


def evaluate(recipe: TeachRecipe, teacher: Path, out: Path, progress: Progress) -> EvaluationResult:
    """Measure a teacher folder on the data of a recipe; see `run_evaluate`."""
    check_place(out, "teach evaluate", [("teacher", teacher)], recipe.data.sources)
    info = inspect_folder(teacher)
    _check_teacher(info, recipe)
    corpus = load_corpus(recipe.data)
    check_corpus(corpus, recipe)
    with (
        open_run(out, "teach evaluate", ("cache",)),
        open_pool(recipe, folder_bytes(teacher)) as pool,
    ):
        cache = Cache(out / "cache")
        progress.info("fitting the probes for style and background")
        probes, ceilings = fit_probes(corpus, recipe, cache)
        run = EvaluationRun(
            recipe,
            corpus,
            TeacherSampler(teacher, info.key, recipe, cache, pool, progress),
            Autoencoder(teacher, info.key, cache),
            MetricTools(ImageExtractor(cache), probes, recipe.evaluate),
            out,
        )
        result = _measure(run, info, ceilings, progress)
        write_json(out / EVALUATION_FILE, result.model_dump(mode="json"))
        write_markdown(result, out)
    return result


def _check_teacher(info: TeacherInfo, recipe: TeachRecipe) -> None:
    if info.tiny_vae:
        raise InputError("the evaluated teacher must have an AutoencoderKL", "an AutoencoderTiny")
    if info.resolution != recipe.data.resolution:
        raise InputError(
            "the teacher must draw at the recipe's `data.resolution`",
            f"{info.resolution} and {recipe.data.resolution}",
        )


def _data_facts(run: EvaluationRun) -> DataFacts:
    data = run.recipe.data
    return DataFacts(
        key=run.corpus.key,
        resolution=data.resolution,
        train=len(run.corpus.train),
        validation=len(run.corpus.validation),
        styles=sorted({subject.style for subject in run.corpus.train}),
        backgrounds=[WHITE, *sorted(data.augment.backgrounds)],
    )


def _measure(
    run: EvaluationRun, info: TeacherInfo, probes: Ceilings, progress: Progress
) -> EvaluationResult:
    recipe, corpus = run.recipe, run.corpus
    guidance = sweep(run.sampler, sweep_set(corpus, recipe), recipe, run.tools)
    scale = guidance.chosen
    sheets.write_sweep(guidance, run.out / "sweep.png")
    sheet = _draw_sheet(run, scale)
    chosen = [known_set(corpus, recipe), *(held_out_set(corpus, recipe, kind) for kind in HELD_OUT)]
    pictures: dict[Kind, Images] = {
        item.kind: run.sampler.draw(picture_requests(item.prompts), scale, item.kind)
        for item in chosen
    }
    figures: dict[Kind, NamedSetFigures] = {}
    for item in chosen:
        progress.info(f"measuring {item.kind}")
        figures[item.kind] = _measure_set(run, item, pictures[item.kind])
    sets = Sets(**figures)
    progress.info("searching the nearest training images")
    near = _measure_copying(run, chosen, pictures)
    autoencoder, pairs = measure_autoencoder(corpus, recipe, run.autoencoder)
    for name, pair in pairs.items():
        sheets.write_pairs(pair.images, pair.decoded, run.out / f"autoencoder_{name}.png")
    return EvaluationResult(
        recipe=recipe.name,
        teacher=TeacherFacts(
            key=info.key,
            family=info.family,
            parameters=component_parameters(info.path),
            bytes=folder_bytes(info.path),
        ),
        data=_data_facts(run),
        settings=Settings.of(recipe),
        environment=Environment.model_validate(environment()),
        probes=probes,
        guidance=guidance,
        sets=sets,
        copying=near,
        autoencoder=autoencoder,
        sheet=sheet,
        lowest=_draw_lowest(run, chosen, pictures),
        targets=check_targets(sets, probes, autoencoder),
    )


def _measure_set(run: EvaluationRun, chosen: PromptSet, pictures: Images) -> NamedSetFigures:
    real = chosen.real_images(run.recipe)
    rows = {
        "generated": pictures,
        "real": real,
        "autoencoder": run.autoencoder.reconstruct(real),
    }
    measured = set_figures(rows, chosen, chosen.reference_images(run.recipe), run.tools)
    return NamedSetFigures(metrics=_names(run, len(chosen.prompts)), **dict(measured))


def _names(run: EvaluationRun, samples: int) -> MetricNames:
    section, name = run.recipe.evaluate, run.extractor.backbone.name
    size = min(section.kid_subset_size, samples)
    return MetricNames(
        fd=fd_name(name, samples),
        kid=kid_name(name, samples, section.kid_subsets, size),
        scorer=run.extractor.scorer.name,
    )


def _draw_sheet(run: EvaluationRun, scale: float) -> dict[Kind, list[str]]:
    """Draw the sample sheet; returns its prompts in the order of the pictures."""
    prompts = run.recipe.evaluate.sheet or choose_sheet(run.corpus, run.recipe)
    texts = [text for kind in prompts for text in prompts[kind]]
    wanted = [PictureRequest(text, SHEET_NOISE + number) for number, text in enumerate(texts)]
    images = run.sampler.draw(wanted, scale, "sample sheet")
    sheets.write_sheet(images, run.out / "samples.png")
    return {kind: list(values) for kind, values in prompts.items()}


def _draw_lowest(
    run: EvaluationRun, sets: list[PromptSet], pictures: dict[Kind, Images]
) -> list[LowestPicture]:
    """Draw the pictures of all kinds that fit their prompts least; returns the prompts."""
    images = np.concatenate([pictures[item.kind] for item in sets])
    prompts = [(item.kind, prompt) for item in sets for prompt in item.prompts]
    extractor = run.extractor
    parts = [
        own_scores(extractor.extract(pictures[item.kind]), item.prompts, extractor.scorer)
        for item in sets
    ]
    scores = np.concatenate(parts)
    rows = np.argsort(scores, kind="stable")[:LOWEST].tolist()
    sheets.write_sheet(images[rows], run.out / "lowest.png")
    return [
        LowestPicture(
            kind=prompts[row][0], prompt=prompts[row][1].text, score=round(float(scores[row]), 2)
        )
        for row in rows
    ]


def _measure_copying(
    run: EvaluationRun, sets: list[PromptSet], pictures: dict[Kind, Images]
) -> Copying:
    training = copying.TrainingImages.of(run.corpus.train, run.extractor)
    copies = copying.copies_row(training, run.autoencoder)
    natural = copying.held_out_row(training, run.corpus.validation)
    rows: dict[str, PromptedNearestFigures | NearestFigures] = {
        "held_out_real": copying.row_figures(natural, natural, copies),
        "autoencoder_copies": copying.row_figures(copies, natural, copies),
    }
    for item in sets:
        white = [row for row, prompt in enumerate(item.prompts) if prompt.background == WHITE]
        if not white:
            continue
        images, prompts = pictures[item.kind][white], [item.prompts[row] for row in white]
        near = training.nearest(images)
        rows[item.kind] = PromptedNearestFigures(
            **dict(copying.row_figures(near, natural, copies)),
            nearest_has_own_pair=copying.own_share(near, training, prompts, "label", "style"),
            nearest_has_own_label=copying.own_share(near, training, prompts, "label"),
        )
        closest = np.argsort(near.feature, kind="stable")[:LOWEST]
        sheets.write_pairs(
            images[closest],
            training.images[near.feature_row[closest]],
            run.out / f"nearest_{item.kind}.png",
        )
    return Copying(training_images=len(training.images), rows=rows)
