"""A teacher whose own picture size is another.

What is built from a pipeline folder takes its size from the U-Net's `sample_size`: students,
exports of fixed shape, SDXL's size conditioning, what an app draws unless it is told otherwise. A
recipe with a `data.resolution` of its own needs that size in all of them.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.diffusion.validate import TeacherInfo, inspect_teacher
from edgekd.files import write_json
from edgekd.folders import atomic_folder
from edgekd.reading import read_json


def teacher_of_size(teacher: TeacherInfo, side: int, folder: Path) -> TeacherInfo:
    """The teacher itself, or where its pictures have other sides, a folder that says so.

    The folder holds links to the teacher's files and a U-Net config of its own; no weight is
    copied or changed.

    Args:
        side: of the square pictures, in pixels; a multiple of the VAE's factor.
    """
    if side == teacher.resolution:
        return teacher
    config = Path("unet", "config.json")
    with atomic_folder(folder) as temporary:
        for path in teacher.path.iterdir():
            # A pipeline is one folder deep. In a download cache both kinds may be links.
            for file in path.iterdir() if path.is_dir() else [path]:
                place = temporary / file.relative_to(teacher.path)
                place.parent.mkdir(exist_ok=True)
                if file.is_file() and place != temporary / config:
                    place.symlink_to(file.resolve())
        size = {"sample_size": side // teacher.vae_scale_factor}
        write_json(temporary / config, {**read_json(teacher.path / config), **size})
    return inspect_teacher(folder)
