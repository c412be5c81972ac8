"""`edgekd prepare`: images to shards, latents and text embeddings."""

from __future__ import annotations

from pathlib import Path

from edgekd.artifacts import PreparedData, TeacherCache
from edgekd.jobs.answers import PrepareAnswer
from edgekd.jobs.plan import at_resolution
from edgekd.jobs.teacher import checked_teacher, teacher_folder
from edgekd.processes.ray_pool import Cluster
from edgekd.progress import Progress
from edgekd.reading import read_object
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.training.device import own_device


def prepare_data(
    recipe: Recipe, teacher: Path, run: Path, progress: Progress, cluster: Cluster | None = None
) -> tuple[PreparedData, TeacherCache]:
    """Prepare the images and record what the teacher makes of them."""
    data = prepare_images(recipe, run, progress, cluster)
    return data, encode_images(data, teacher, run, progress, cluster)


def prepare_images(
    recipe: Recipe, run: Path, progress: Progress, cluster: Cluster | None = None
) -> PreparedData:
    """Prepare the images alone: enough to draw their captions."""
    from edgekd.data.prepare import prepare

    return prepare(recipe.data, run / "prepared", progress, cluster)


def encode_images(
    data: PreparedData,
    teacher: Path,
    run: Path,
    progress: Progress,
    cluster: Cluster | None = None,
) -> TeacherCache:
    """Record what the teacher makes of prepared images: what students are trained on."""
    from edgekd.data.cache_writer import ENCODERS, build_cache, build_cache_on
    from edgekd.diffusion.load import load_teacher
    from edgekd.diffusion.validate import inspect_folder

    if cluster is not None:
        return build_cache_on(cluster, data, inspect_folder(teacher), run / "cache", progress)
    encoders = load_teacher(teacher, device=str(own_device()), only=ENCODERS)
    return build_cache(data, encoders, run / "cache", progress)


def prepare_run(
    recipe: Recipe, run: Path, progress: Progress, cluster: Cluster | None = None
) -> PrepareAnswer:
    """`edgekd prepare`: shards and caches of a recipe's data; returns the summary."""
    path = teacher_folder(recipe, run)
    from edgekd.data.sources import check_sources

    check_sources(recipe.data)
    teacher = checked_teacher(path)
    recipe = at_resolution(recipe, teacher)
    with open_run(run):
        if cluster is not None:
            cluster.check(run)
        data, cache = prepare_data(recipe, teacher.path, run, progress, cluster)
    summary = read_object(data.root / "summary.json")
    return PrepareAnswer(**summary, prepared=data.root, cache=cache.root)
