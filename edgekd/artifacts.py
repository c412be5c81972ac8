"""Typed hand-offs between stages, content hashes, atomic writes and the run lock.

A stage writes its result under a temporary name and renames it when it is
whole, so a killed process never leaves something that looks finished. Every
finished artefact folder carries `artifact.json` with its `key`: the hash of
the content of all its inputs. A stage whose key is unchanged is not run again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.disk import making
from edgekd.errors import InputError
from edgekd.reading import read_json as read_json

ARTIFACT_FILE = "artifact.json"
# Folders of work that a later call goes on with: see `edgekd.data.partial`.
PARTIAL = ".*.partial"


@dataclass(frozen=True)
class PreparedData:
    """Captioned images, resized, split and sharded. See `edgekd.data.prepare`."""

    root: Path
    key: str
    train: int
    validation: int
    resolution: int


@dataclass(frozen=True)
class TeacherCache:
    """A teacher's VAE moments and text embeddings of prepared data. See `edgekd.data.cache`."""

    root: Path
    key: str
    teacher_key: str


@dataclass(frozen=True)
class StudentCheckpoint:
    """A diffusers pipeline folder that holds a distilled student."""

    path: Path
    key: str
    metrics_path: Path


@dataclass(frozen=True)
class ExportedPipeline:
    """A pipeline folder in a runtime's own format, with its `manifest.json`."""

    path: Path
    key: str
    runtime: str
    precision: str


@dataclass(frozen=True)
class BenchmarkReport:
    """The rendered matrix: `report.json`, `report.html` and `report.md` in one folder."""

    root: Path
    key: str

    @property
    def json_path(self) -> Path:
        return self.root / "report.json"

    @property
    def html_path(self) -> Path:
        return self.root / "report.html"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def hash_value(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_tree(root: Path, exclude: tuple[str, ...] = ()) -> str:
    """SHA-256 (hex) over names and contents of all files below `root`, order-independent."""
    rows = [
        [path.relative_to(root).as_posix(), hash_file(path)]
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in exclude
    ]
    return hash_value(rows)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


@contextlib.contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder and rename it to `final` on success.

    An older `final` is replaced as the last step; on any error the temporary
    folder is removed and `final` stays as it was.

    Raises:
        InputError: no folder can be made there.
    """
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    with making(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    try:
        yield temporary
        old = final.with_name(f".{final.name}.{os.getpid()}.old")
        if final.exists():
            final.rename(old)
        temporary.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Tidy what a killed process left directly below `root`; call it only under the lock.

    A result that was moved aside for its replacement comes back when the
    replacement never arrived; half-written files and folders go.
    """
    for old in root.glob(".*.old"):
        final = old.with_name(old.name[1:].rsplit(".", 2)[0])
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(final)
    for temporary in root.glob(".*.tmp"):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def finish(root: Path, key: str, **facts: Any) -> None:
    """Mark an artefact folder as whole: write its key and facts."""
    write_json(root / ARTIFACT_FILE, {"key": key, **facts})


def finished(root: Path, key: str) -> dict[str, Any] | None:
    """The facts of an artefact that is whole and has this key, else None."""
    path = root / ARTIFACT_FILE
    if not path.is_file():
        return None
    facts = read_json(path)
    return facts if isinstance(facts, dict) and facts.get("key") == key else None


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process alone.

    Raises:
        InputError: the folder cannot be written, or another process holds it.
    """
    with making(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 (held open below)
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise InputError(
                "one process may work on a run folder at a time",
                f"{folder} held by process {stream.read().strip() or 'unknown'}",
                "Wait for it, or pass another --out.",
            ) from None
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


@contextlib.contextmanager
def open_run(
    run: Path, worth_keeping: tuple[str, ...] = (ARTIFACT_FILE, PARTIAL)
) -> Iterator[None]:
    """Lock a run folder, tidy what a killed process left in it, and leave no empty shell behind.

    A run folder that this process made, with the parents it made for it, is removed
    again when an error comes before the first file that is worth keeping.

    Args:
        worth_keeping: name patterns of such files and folders.
    """
    made_here = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        with run_lock(run):
            remove_leftovers(run)
            yield
    except BaseException:
        kept = (path for pattern in worth_keeping for path in run.rglob(pattern))
        if made_here and run.is_dir() and next(kept, None) is None:
            shutil.rmtree(run, ignore_errors=True)
            for parent in made_here[1:]:
                with contextlib.suppress(OSError):  # another run may be using it by now
                    parent.rmdir()
        raise
