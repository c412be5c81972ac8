"""The teacher of a run: a folder of the user's, or one that the run makes of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.diffusion.resolve import is_checkpoint, resolve_pipeline
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.run_folder import check_place, open_run

if TYPE_CHECKING:
    from edgekd.diffusion.validate import TeacherInfo

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


def checked_teacher(path: Path) -> TeacherInfo:
    """A teacher that students are cut from. Less will do for a pipeline to export or to draw with.

    Raises:
        InputError: as `inspect_teacher`; a U-Net of a layout that students do not have.
    """
    from edgekd.diffusion.validate import inspect_teacher
    from edgekd.student.shape import read_shape

    info = inspect_teacher(path)
    read_shape(read_json(path / "unet" / "config.json"))
    return info
