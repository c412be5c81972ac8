"""The single-stage verbs: one stage of the pipeline, or a few, on input from the command line."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.artifacts import PreparedData, atomic_folder, finish, hash_value, open_run, read_json
from edgekd.disk import check_writable
from edgekd.errors import InputError
from edgekd.pipeline import (
    Plan,
    at_resolution,
    make_plan,
    prepare_data,
    train_student,
    with_sized_teacher,
)
from edgekd.progress import Progress
from edgekd.recipe import Recipe, override, validate
from edgekd.resources import find_yaml, resolve_pipeline
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.benchmark.subjects import Subject
    from edgekd.benchmark.suite import ExportSuite
    from edgekd.export.bits.request import Quantize

# Parity prompts of `edgekd export` when none are given: any text will do, different lengths.
DEFAULT_PROMPTS = ["red apple", "a photo of a small house beside a lake, evening light"]


def prepare_run(recipe: Recipe, run: Path, progress: Progress) -> dict[str, Any]:
    """`edgekd prepare`: shards and caches of a recipe's data; returns the summary."""
    from edgekd.data.records import check_sources

    check_sources(recipe.data.sources)
    path = resolve_pipeline(recipe.teacher.path, "teacher")
    from edgekd.diffusion.validate import inspect_teacher

    teacher = inspect_teacher(path)
    recipe = at_resolution(recipe, teacher)
    with open_run(run):
        data, cache = prepare_data(recipe, teacher.path, run, progress)
    summary = read_json(data.root / "summary.json")
    return {**summary, "prepared": data.root, "cache": cache.root}


def export_run(
    pipeline: Path,
    target: Target,
    precision: str | None,
    out: Path,
    prompts: list[str] | None,
    progress: Progress,
    lora: Path | None = None,
    memory_limit: str | None = None,
    quantize: Quantize | None = None,
    tune: bool = False,
    recommended: tuple[int, float] | None = None,
) -> dict[str, Any]:
    """`edgekd export`: one pipeline in one precision.

    Args:
        precision: None: what the target deploys.
        lora: safetensors file to fuse first.
        memory_limit: `6GB` and the like; see `parse_bytes`.
        quantize: bits of each weight, from a recipe or chosen.
        tune: measure the runtime's options afterwards and keep the best in the manifest.
        recommended: denoising steps and guidance scale for the manifest, which parity follows.

    Returns:
        `{"path", "precision", "peak_rss_bytes", "pictures", "quantization", "tuning", "components":
        {name: {"parity": {"snr_db", "floor_db", "executed_by", ...}, "bytes", "peak_rss_bytes",
        "seconds", ...}}}`.
    """
    limit_bytes = None if memory_limit is None else parse_bytes(memory_limit)
    _check_prompts(prompts or [])
    out = out.absolute()  # `.` has no name to put a temporary folder beside
    check_writable(out)
    pipeline = resolve_pipeline(str(pipeline))
    from edgekd.export.bits.apply import mixed_precision
    from edgekd.export.bits.request import quantization_recipe
    from edgekd.export.protocol import ExportOptions, Generation, Tunes
    from edgekd.export.registry import get_exporter

    if recommended is not None and not math.isfinite(recommended[1]):
        raise InputError("`--guidance` must be finite", str(recommended[1]))
    options = ExportOptions(
        generation=Generation(*(recommended or ())),
        schedulers=tuple(target.schedulers),
        lora=lora,
        memory_limit_bytes=limit_bytes,
    )
    exporter = get_exporter(target.runtime)
    if tune and not isinstance(exporter, Tunes):
        raise InputError("--tune needs a runtime that has options to measure", exporter.name)
    used = prompts or DEFAULT_PROMPTS
    chosen = precision or target.deploy
    if quantize is not None:
        chosen = mixed_precision(precision)
        recipe = quantization_recipe(
            quantize, target.name, exporter, pipeline, out, used, options, progress
        )
        options = replace(options, quantization=recipe)
    exported = exporter.export(pipeline, out, chosen, used, progress, options)
    if tune and isinstance(exporter, Tunes):
        progress.info("  timing the runtime's options")
        exporter.tune(exported.path, 0)
    manifest = read_json(exported.path / "manifest.json")
    return {
        "path": exported.path,
        "precision": exported.precision,
        "peak_rss_bytes": manifest["memory"]["peak_rss_bytes"],
        "pictures": manifest["pictures"],
        "quantization": manifest["quantization"],
        "tuning": manifest.get("tuning"),
        "components": manifest["components"],
    }


def parse_quantize(
    recipe: str | None, max_drop_db: float | None, size_budget: str | None
) -> Quantize | None:
    """`--quantize`, `--max-drop` and `--size-budget` together; None: nothing was asked.

    Raises:
        InputError: options that do not go together, or values that make no sense.
    """
    if recipe is None:
        if max_drop_db is not None or size_budget is not None:
            raise InputError(
                "--max-drop and --size-budget go with `--quantize auto`", "no --quantize"
            )
        return None
    from edgekd.export.bits.request import Quantize

    budget = None if size_budget is None else parse_bytes(size_budget)
    return Quantize(recipe, max_drop_db, budget)


def parse_bytes(text: str) -> int:
    """`6GB`, `6.5 GiB`, `800MB` or a plain number of bytes.

    Raises:
        InputError: anything else.
    """
    units = {"": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in units or float(match[1]) == 0:
        raise InputError(
            "a size must be a number above 0 with one of MB, GB, MiB, GiB, or in bytes", repr(text)
        )
    return int(float(match[1]) * units[match[2]])


def _variant_recipes(plan: Plan) -> dict[str, Recipe]:
    """The recipe of every variant of the suite, checked before the first trains."""
    from edgekd.student.arch import resolve_arch

    config = read_json(plan.teacher.path / "unet" / "config.json")
    recipes = {}
    for variant in plan.suite.variants:
        values = override(plan.recipe.model_dump(), variant.assignments)
        recipe = validate(Recipe, values, f"variant `{variant.name}`")
        resolve_arch(recipe.student, config)
        recipes[variant.name] = recipe
    return recipes


def student_names(paths: list[Path], variants: list[str]) -> list[str]:
    """What the report calls given students: the folder's name, or its path where that is no name.

    Raises:
        InputError: one folder twice.
    """
    places = [path.resolve() for path in paths]
    twice = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise InputError("each --student must be another folder", f"{twice[0]} twice")
    taken = [*variants, *(place.name for place in places)]
    return [
        f"student {place.name if taken.count(place.name) == 1 else path}"
        for path, place in zip(paths, places, strict=True)
    ]


def _trained_subjects(
    plan: Plan, recipes: dict[str, Recipe], run: Path, progress: Progress
) -> tuple[list[Subject], dict[str, Path], PreparedData]:
    """Prepare data and train every variant of the suite."""
    from edgekd.benchmark.prompts import check_count
    from edgekd.benchmark.subjects import TORCH, Subject

    data, cache = prepare_data(plan.recipe, plan.teacher.path, run, progress)
    check_count(data.validation)
    subjects, curves = [], {}
    for variant in plan.suite.variants:
        recipe = recipes[variant.name]
        progress.info(f"[variant {variant.name}] {variant.description}")
        out = run / "variants" / variant.name
        student = train_student(plan, recipe, cache, out, progress)
        subjects.append(Subject(f"student {variant.name}", "student", TORCH, "fp32", student.path))
        curves[variant.name] = student.metrics_path
    return subjects, curves, data


def benchmark_run(
    recipe: Recipe,
    target: Target,
    suite_name: str,
    students: list[Path],
    run: Path,
    progress: Progress,
) -> dict[str, Any]:
    """`edgekd benchmark`: the teacher, given students and the suite's own variants, in torch."""
    from edgekd.benchmark.suite import load_suite

    if not students and not load_suite(find_yaml("benchmarks", suite_name)).variants:
        raise InputError(
            f"suite `{suite_name}` needs a student to measure", "none", "Pass --student DIR."
        )
    students = [resolve_pipeline(str(student), "student") for student in students]
    from edgekd.benchmark.run import benchmark
    from edgekd.benchmark.subjects import TORCH, Subject
    from edgekd.diffusion.validate import inspect_folder

    chosen = validate(
        Recipe, override(recipe.model_dump(), [f"benchmark.suite={suite_name}"]), "recipe"
    )
    plan = make_plan(chosen, target, run)
    for student in students:
        inspect_folder(student)
    recipes = _variant_recipes(plan)
    names = student_names(students, list(recipes))
    with open_run(run):
        plan = with_sized_teacher(plan)
        subjects, curves, data = _trained_subjects(plan, recipes, run, progress)
        teacher = Subject("teacher torch fp32", "teacher", TORCH, "fp32", plan.teacher.path)
        given = [
            Subject(name, "student", TORCH, "fp32", path)
            for name, path in zip(names, students, strict=True)
        ]
        rows = [teacher, *subjects, *given]
        key = hash_value(
            [__version__, plan.suite.model_dump(), data.key, [[s.name, s.key()] for s in rows]]
        )
        report = benchmark(plan.suite, rows, data, run / "report", progress, key, curves)
    content = read_json(report.json_path)
    return {
        "report": report.html_path,
        "rows": {row["name"]: row["quality"] for row in content["rows"]},
        "metrics": content["metrics"],
    }


def export_benchmark_run(
    suite: ExportSuite, targets: list[Target], out: Path, progress: Progress
) -> dict[str, Any]:
    """`edgekd benchmark` with a suite of exports.

    Returns:
        as `edgekd.benchmark.exports.benchmark_exports`, and `report`, the path of its file.

    Raises:
        InputError: a precision that its target does not list, or a runtime that is not installed.
    """
    from edgekd.benchmark.exports import REPORT_FILE, benchmark_exports

    with open_run(out):
        result = benchmark_exports(suite, targets, out, progress)
        finish(out, hash_value(suite.model_dump()), suite=suite.name)
    return {**result, "report": out / REPORT_FILE}


def _check_prompts(prompts: list[str]) -> None:
    """Empty captions are for guidance, not for drawing."""
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("a prompt must not be empty", repr(prompts))


def _check_steps(drawer: Any, steps: int) -> None:
    """Each scheduler has bounds of its own, which it states when it is asked for the steps."""
    try:
        drawer.scheduler.set_timesteps(steps)
    except ValueError as error:
        raise InputError(
            "the pipeline's scheduler must take `--steps`",
            f"{steps} ({' '.join(str(error).split())})",
        ) from None


def _open_export(folder: Path) -> Any:
    """An exported folder as an object that is called like a diffusers pipeline.

    Raises:
        InputError: a manifest that is none, or parts that the runtime cannot open.
    """
    from edgekd.export.manifest import read_manifest
    from edgekd.export.registry import get_exporter

    exporter = get_exporter(str(read_manifest(folder).get("runtime")))
    try:
        return exporter.load(folder)
    except InputError:
        raise
    # onnxruntime and its like raise bare Exception subclasses of their own.
    except Exception as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"the export must load in {exporter.name}",
            f"{folder} ({message[:300]})",
            "Export it again.",
        ) from error


def generate_run(
    pipeline: Path, prompts: list[str], out: Path, steps: int, guidance_scale: float, seed: int
) -> list[Path]:
    """`edgekd generate`: one PNG for each prompt; picture i draws its noise from `seed + i`.

    Raises:
        InputError: an empty prompt, a folder that is neither pipeline nor export or is damaged, an
            `out` that exists or cannot be made.
    """
    check_writable(out)
    if out.exists():
        raise InputError("`--out` must be a new folder", str(out))
    _check_prompts(prompts)
    if not math.isfinite(guidance_scale):
        raise InputError("`--guidance` must be finite", str(guidance_scale))
    source = resolve_pipeline(str(pipeline))
    import torch

    if (source / "manifest.json").is_file():
        drawer = _open_export(source)
    else:
        from edgekd.diffusion.load import load_pipeline

        drawer = load_pipeline(source)
    _check_steps(drawer, steps)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    pictures = drawer(
        prompts, num_inference_steps=steps, guidance_scale=guidance_scale, generator=generators
    ).images
    names = [f"{i:04d}.png" for i in range(len(prompts))]
    with atomic_folder(out) as folder:
        for name, picture in zip(names, pictures, strict=True):
            picture.save(folder / name)
    return [out / name for name in names]
