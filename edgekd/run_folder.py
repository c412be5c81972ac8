"""Run folders: whose they are, one process at a time, and no input inside the output."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE, damage, foreign_entry, read_record
from edgekd.files import making, resolved, write_json
from edgekd.reading import read_object
from edgekd.resources import STARTER_NAME

# Folders of work that a later call goes on with: see `edgekd.folders.resumable_folder`.
PARTIAL = ".*.partial"
MARKER = ".edgekd-run.json"
_LOCK = ".edgekd-run.lock"
_ANOTHER = "Pass another --out."
# What a run of some verb writes before its first result, and the folders that it makes for them.
_FIRST_FILES = ("recipe.yaml", "environment.json", "recipe.json")
# Of apps, in which their users work: whatever lies there is theirs, and never replaced.
BUNDLES = "bundle"
_FOLDERS = (
    BUNDLES,
    "cache",
    "distill",
    "export",
    "report",
    "search",
    "shared",
    "variants",
    "vae",
    "text",
    "unet",
)


def check_apart(out: Path, inputs: Iterable[tuple[str, str | Path]]) -> None:
    """Nothing that a verb reads may lie in the folder that it writes.

    Args:
        inputs: option and path of each, as the user wrote them.

    Raises:
        InputError: the option, and what lies where.
    """
    for option, path in inputs:
        place, folder = resolved(Path(path)), resolved(out)
        if place.is_relative_to(folder):
            found = f"{path} for both" if place == folder else f"{path} in {out}"
            raise InputError(f"`{option}` must lie outside the out folder", found, _ANOTHER)


def check_data_apart(out: Path, sources: Iterable[str], option: str = "--data") -> None:
    """Neither may captioned images lie in the out folder, nor the out folder among them.

    Args:
        sources: as in a recipe: files, folders and globs.

    Raises:
        InputError: what lies where.
    """
    place = resolved(out)
    for source in (source for source in sources if source != STARTER_NAME):
        path = Path(source).expanduser()
        found = [source, *glob.glob(str(path), recursive=True)]
        check_apart(out, [(option, name) for name in found])
        if path.exists():
            holds = path.is_dir() and place.is_relative_to(resolved(path))
        else:
            pattern = str(path.absolute())
            holds = any(fnmatch.fnmatchcase(str(each), pattern) for each in (place, *place.parents))
        if holds:
            # The next run would take its own shards for images of the user's.
            raise InputError(
                f"the out folder must lie outside `{option}`", f"{out} in {source}", _ANOTHER
            )


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process alone.

    Raises:
        InputError: the folder cannot be written, or another process holds it.
    """
    with making(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder / _LOCK) and not (folder / _LOCK).is_file():
            raise InputError("the lock of a run must be a regular file", str(folder / _LOCK))
        stream = open(folder / _LOCK, "a", encoding="utf-8")  # noqa: SIM115 (held open below)
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "one process may work on a run folder at a time",
                f"{folder} held by process {_marker(folder).get('pid', 'unknown')}",
                "Wait for it, or pass another --out.",
            ) from None
        yield


@contextlib.contextmanager
def open_run(
    run: Path, kind: str = "distill", worth_keeping: tuple[str, ...] = (ARTIFACT_FILE, PARTIAL)
) -> Iterator[None]:
    """Lock a run folder of this kind, and leave no empty shell behind.

    A run folder that this process made, with the parents it made for it, is removed again when an
    error comes before the first file that is worth keeping.

    Args:
        kind: the verb whose results it holds.
        worth_keeping: name patterns of such files and folders.

    Raises:
        InputError: the folder is somebody else's, or holds what edgekd did not write where it
            will write; nothing was touched then.
    """
    made_here = [folder for folder in (run, *run.parents) if not folder.exists()]
    check_run(run, kind)
    with run_lock(run):
        try:
            write_json(run / MARKER, {"kind": kind, "pid": os.getpid()})
            yield
        except BaseException:
            kept = (path for pattern in worth_keeping for path in run.rglob(pattern))
            if made_here and next(kept, None) is None:
                _remove_shell(run, made_here)
            raise


def _remove_shell(run: Path, made_here: list[Path]) -> None:
    """Remove what a run wrote before its first result; whatever else is there stays."""
    for name in (*_FIRST_FILES, MARKER, _LOCK):
        (run / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        for inner, _, _ in os.walk(run / name, topdown=False):
            with contextlib.suppress(OSError):
                Path(inner).rmdir()
    for folder in made_here:
        with contextlib.suppress(OSError):  # not empty, or another run is using it by now
            folder.rmdir()


def check_place(
    run: Path,
    kind: str,
    inputs: Iterable[tuple[str, str | Path]] = (),
    sources: Iterable[str] = (),
) -> None:
    """All that can be said of a run folder before any work: whose it is, and what lies in it.

    Raises:
        InputError: as `check_run`, `check_apart` and `check_data_apart`.
    """
    check_apart(run, inputs)
    check_data_apart(run, sources)
    check_run(run, kind)


def check_run(run: Path, kind: str) -> None:
    """A run folder must be new, empty, or an earlier run's of the same kind.

    Raises:
        InputError: as `open_run`.
    """
    if not run.is_dir() or _is_empty(run):
        return
    found = _marker(run).get("kind")
    if found != kind:
        made = f"{run} ({f'of `edgekd {found}`' if found else 'with files of others'})"
        raise InputError(
            f"the out folder must be new, empty, or an earlier run of `edgekd {kind}`",
            made,
            _ANOTHER,
        )
    for folder, folders, files in os.walk(run):
        if Path(folder) == run and BUNDLES in folders:
            folders.remove(BUNDLES)
        record = read_record(Path(folder))
        if record is None or not record.get("whole"):
            links = [name for name in (*folders, *files) if (Path(folder) / name).is_symlink()]
            if links:
                raise InputError(
                    "a run folder must hold no links", str(Path(folder) / links[0]), _ANOTHER
                )
            continue
        folders.clear()
        if foreign := foreign_entry(Path(folder)):
            raise InputError(
                "results in a run folder must hold nothing that edgekd did not write",
                str(foreign),
                "Move it away, or pass another --out.",
            )


def verify_run(run: Path, say: Callable[[str], None]) -> None:
    """Compare the hashes of all that a run has finished; what is damaged will be made again.

    Args:
        say: is told of damage.

    Raises:
        InputError: as `check_run`, or another process works on the run.
    """
    if not run.is_dir() or _is_empty(run):
        return
    check_run(run, "distill")
    with run_lock(run):
        for mark in sorted(run.rglob(ARTIFACT_FILE)):
            folder = mark.parent
            record = None if folder.is_relative_to(run / BUNDLES) else read_record(folder)
            if record is not None and (harmed := damage(folder, record, thorough=True)):
                say(f"  `{folder / harmed}` is missing or damaged: it is made again")
                mark.unlink()  # which makes it unfinished


def _is_empty(run: Path) -> bool:
    """Whether a folder holds nothing, or the lock alone of a process that came no further."""
    return all(
        path.name == _LOCK and path.is_file() and not path.is_symlink() and not path.stat().st_size
        for path in run.iterdir()
    )


def _marker(run: Path) -> dict[str, Any]:
    """What a run folder says of itself; {}: it is none."""
    try:
        return read_object(run / MARKER)
    except InputError:
        return {}
