"""A teacher whose own picture size is another.

What is built from a pipeline folder takes its size from the U-Net's `sample_size`: students,
exports of fixed shape, SDXL's size conditioning, what an app draws unless it is told otherwise. A
recipe with a `data.resolution` of its own needs that size in all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.artifacts import atomic_folder, read_json, write_json
from edgekd.teacher.validate import TeacherInfo, inspect_teacher


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
        # In a download cache files are links, and folders may be.
        for root, _, names in os.walk(teacher.path, followlinks=True):
            place = temporary / Path(root).relative_to(teacher.path)
            place.mkdir(exist_ok=True)
            for name in names:
                if place / name != temporary / config:
                    (place / name).symlink_to(Path(root, name).resolve())
        size = {"sample_size": side // teacher.vae_scale_factor}
        write_json(temporary / config, {**read_json(teacher.path / config), **size})
    return inspect_teacher(folder)
