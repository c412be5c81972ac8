"""Folders that edgekd may replace: only its own, known by a record of every file in them.

A finished folder carries `artifact.json`: its content key, and names, sizes and hashes of its
files. That record is the licence to replace it. What holds anything else is never touched.

A folder grows under a temporary name, `.<name>.<pid>.tmp`, and takes its own when it is whole.
What a killed process left is known by exactly that name, the number of a process that is gone, and
edgekd's mark in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgekd.errors import EdgekdError, InputError
from edgekd.file_record import (
    ARTIFACT_FILE,
    GROWING,
    PARTS_FILE,
    damage,
    finish,
    foreign_entry,
    read_mark,
    read_record,
)
from edgekd.files import is_running, making, write_json, writing
from edgekd.parts import is_temporary, strangers


def _silent(text: str) -> None:
    del text


def finished(root: Path, key: str, say: Callable[[str], None] = _silent) -> dict[str, Any] | None:
    """The facts of a folder that is whole, undamaged and has this key, else None.

    Args:
        say: is told of damage.
    """
    tidy(root)
    record = read_record(root)
    if record is None:
        if (root / ARTIFACT_FILE).exists():
            say(f"  `{root}` is damaged: it is made again")
        return None
    if record["key"] != key:
        return None
    if harmed := damage(root, record):
        say(f"  `{root / harmed}` is missing or damaged: it is made again")
        return None
    return record


def check_replaceable(path: Path, option: str = "--out", changed: bool = True) -> None:
    """Only what edgekd wrote, and nobody added to or changed, may be replaced.

    Raises:
        InputError: the path is a link, a file, a mount point, or holds something else.
    """
    if not os.path.lexists(path):
        return
    problem = ""
    if path.is_symlink() or not path.is_dir():
        problem = f"{path} ({'a link' if path.is_symlink() else 'a file'})"
    elif path.is_mount():
        # A finished folder takes the place of the old one, which a mount point cannot leave.
        problem = f"{path} (a mount point)"
    elif foreign := foreign_entry(path, changed):
        inside = foreign.relative_to(path)
        problem = str(path) if foreign == path else f"{path} with `{inside}` in it"
    if problem:
        raise InputError(
            f"`{option}` must be a new or empty folder, or one with nothing but edgekd's own files",
            problem,
            "Move it away, or pass another folder.",
        )


def remove_folder(path: Path) -> None:
    """Remove one of edgekd's own folders; one with anything else in it stays."""
    if path.is_dir() and not path.is_symlink() and foreign_entry(path) is None:
        shutil.rmtree(path, ignore_errors=True)


def _check_place(final: Path) -> None:
    """As `check_replaceable`, for a place inside a run folder.

    Whatever stands there without a readable record was a result, and is damaged: it is set aside.
    """
    record = read_record(final)
    if final.is_symlink() or not final.is_dir() or (record is not None and record.get("whole")):
        check_replaceable(final, str(final), changed=False)


@contextlib.contextmanager
def temporary_folder(final: Path) -> Iterator[Path]:
    """Yield a new folder beside `final`; it goes in the end, or when `final` is next made.

    Raises:
        InputError: no folder can be made there.
    """
    tidy(final)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    with making(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        write_json(temporary / ARTIFACT_FILE, GROWING)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(final: Path, record: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling folder that takes the name `final` on success.

    An older `final` is replaced as the last step; on any error it stays as it was.

    Args:
        record: leave `artifact.json` in it, so that it can be replaced one day.

    Raises:
        InputError: no folder can be made there, or `final` may not be replaced.
    """
    _check_place(final)
    with temporary_folder(final) as temporary:
        yield temporary
        if not record:
            (temporary / ARTIFACT_FILE).unlink(missing_ok=True)
        elif read_record(temporary) is None:
            finish(temporary, "")
        _replace(final, temporary)


@contextlib.contextmanager
def resumable_folder(final: Path, key: str) -> Iterator[Path]:
    """Yield the folder in which `final` grows; on success it takes that name.

    A later call with the same key finds the parts that an earlier, killed one finished and noted
    (see `edgekd.parts`). Work for another key is thrown away, and so is all of it when the user's
    input turns out to be wrong; a full disk or a killed process leaves it. What else is found in it
    is set aside.
    """
    partial = final.with_name(f".{final.name}.{key[:16]}.partial")
    other = re.compile(rf"\.{re.escape(final.name)}\.[0-9a-f]{{16}}\.partial")
    tidy(final)
    _check_place(final)
    with writing(final):
        for path in final.parent.iterdir() if final.parent.is_dir() else ():
            if other.fullmatch(path.name) and _is_growing(path):
                _set_aside(path, strangers(path), final)
                if path != partial:
                    shutil.rmtree(path, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        write_json(partial / ARTIFACT_FILE, GROWING)
        for path in [path for path in partial.rglob("*") if is_temporary(path)]:
            path.unlink(missing_ok=True)
        try:
            yield partial
        except EdgekdError as error:
            if not error.from_outside:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        _replace(final, partial)


def _set_aside(root: Path, files: list[Path], final: Path) -> None:
    """Move files out of a folder that is about to go, or to be taken for whole."""
    place = _free_name(final)
    for path in files:
        target = place / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def _free_name(final: Path) -> Path:
    names = (f"{final.name}.set-aside-{number}" for number in range(1, 10_000))
    places = (final.with_name(name) for name in names)
    return next(place for place in places if not os.path.lexists(place))


def set_aside(final: Path) -> Path | None:
    """Give a folder in which somebody has worked a name of its own; None: there is none such."""
    usable = final.is_dir() and not final.is_symlink()
    if not usable or foreign_entry(final, changed=True) is None:
        return None
    place = _free_name(final)
    with writing(final):
        final.rename(place)
    return place


def _is_growing(folder: Path) -> bool:
    """Whether a folder under a temporary name is one of edgekd's."""
    ours = folder.is_dir() and not folder.is_symlink()
    return ours and (read_mark(folder) == GROWING or read_record(folder) is not None)


def _replace(final: Path, new: Path) -> None:
    """Give a whole folder its name; what had it goes.

    In between, the old one is called `.<name>.<pid>.old`, from where `tidy` brings it back. One
    that was damaged or changed is set aside: nobody can tell whose content it is.
    """
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    (new / PARTS_FILE).unlink(missing_ok=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    if old.is_dir():
        if foreign_entry(old, changed=True) is None:
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(_free_name(final))


def tidy(final: Path) -> None:
    """Undo what a killed process left of `final`: its old folder comes back, a half-made one goes.

    Matched are `.<name>.<pid>.tmp` and `.<name>.<pid>.old` of dead processes with edgekd's own
    marks in them, and nothing else.
    """
    pattern = re.compile(rf"\.{re.escape(final.name)}\.(\d+)\.(tmp|old)")
    if not final.parent.is_dir():
        return
    for path in sorted(final.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        # In a container a later process may have the number of the one that was killed.
        alive = match is not None and int(match[1]) != os.getpid() and is_running(int(match[1]))
        if match is None or alive or not _is_growing(path):
            continue
        if match[2] == "tmp" and read_record(path) is None:
            shutil.rmtree(path, ignore_errors=True)
        elif foreign_entry(path) is None:
            if match[2] == "tmp" or final.exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.rename(final)
