"""The teacher of a run: a folder of the user's, or one that the run makes of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from edgekd.diffusion.resolve import is_checkpoint, resolve_pipeline
from edgekd.recipe import Recipe
from edgekd.run_folder import check_place, open_run

_IMPORTED = "imported"


def teacher_folder(recipe: Recipe, run: Path) -> Path:
    """The folder of a recipe's teacher, after all that can be said of the run folder.

    A checkpoint in one file is imported into the run folder, and again only when it changes.

    Raises:
        InputError: as `resolve_pipeline` and `check_place`.
    """
    name = recipe.teacher.path
    path = Path(name).expanduser()
    whole = is_checkpoint(path)
    place = path if whole else resolve_pipeline(name, "teacher")
    check_place(run, "distill", [("--teacher", place)], recipe.data.sources)
    if not whole:
        return place
    with open_run(run):
        return resolve_pipeline(name, "teacher", run / _IMPORTED)
