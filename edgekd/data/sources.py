"""What the sources name: the files to read, and the files that are left out, with the reason.

Only names are held in memory. Hidden files and folders are passed over. A linked folder is
walked once, after the folders themselves, so cycles end; a link that leaves its source is left
out, as is everything that is no regular file: nothing else is ever opened.
"""

from __future__ import annotations

import functools
import glob
import itertools
import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from edgekd.data.images import image_suffixes, unread_format
from edgekd.data.metadata import FILE_COLUMN, METADATA_NAMES
from edgekd.data.parquet import columns_of, image_column, row_count
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.recipe import SourcesSection
from edgekd.resources import STARTER, STARTER_NAME

STARTER_PARQUET = STARTER / "emoji-64.parquet"
# Renderings of one label are near each other: the starter's labels are held out whole.
STARTER_GROUP_KEY = "label"
RECORD_KINDS = ("image", "parquet", "tar")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# Beside an image, of the same stem; the first by name is its caption.
CAPTION_SUFFIXES = (".caption", ".txt")
FIELDS_SUFFIX = ".json"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is the path shown: it starts with the source's own name."""

    path: Path
    name: str
    kind: str  # one of RECORD_KINDS, "metadata", "caption" or "fields"

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Unused:
    """Something that was found and is not read."""

    name: str
    reason: str


@dataclass
class DataSource:
    """A folder, or files of one folder, in order of their names."""

    root: Path
    files: list[SourceFile] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    group_key: str = ""

    @functools.cached_property
    def name(self) -> str:
        return self.root.resolve().name

    def name_of(self, path: Path) -> str:
        """The name of the root or of a path below it."""
        return PurePosixPath(self.name, path.relative_to(self.root)).as_posix()


def list_sources(section: SourcesSection) -> list[DataSource]:
    """All files of all sources.

    Raises:
        InputError: a path does not exist or is of no use, or a glob matches nothing.
    """
    return [found for source in section.sources for found in _find(source, section.image_key)]


def check_sources(section: SourcesSection) -> None:
    """Look for what the sources name, before anything is read.

    Raises:
        InputError: as `list_sources`; also sources without any image.
    """
    found = list_sources(section)
    if any(file.kind in (*RECORD_KINDS, "metadata") for source in found for file in source.files):
        return
    reasons = describe_counts(Counter(item.reason for source in found for item in source.unused))
    where = ", ".join(section.sources)
    raise InputError(
        "`--data` (`data.sources`) must hold captioned images",
        f"no images, parquet files or tars in {where}{reasons and f' ({reasons})'}",
    )


def describe_counts(counts: dict[str, int]) -> str:
    """`300 not read: .md; 2 broken link`."""
    return "; ".join(f"{count} {reason}" for reason, count in counts.items())


def count_images(section: SourcesSection) -> int | None:
    """How many images the sources hold, about; None where a tar would have to be read for it."""
    count = 0
    for file in (file for source in list_sources(section) for file in source.files):
        rows = row_count(file.path) if file.kind == "parquet" else int(file.kind == "image")
        if file.kind == "tar" or rows is None:
            return None
        count += rows
    return count


def _find(source: str, image_key: str | None) -> Iterator[DataSource]:
    if source == STARTER_NAME:
        file = SourceFile(STARTER_PARQUET, STARTER_PARQUET.name, "parquet")
        yield DataSource(STARTER_PARQUET.parent, [file], group_key=STARTER_GROUP_KEY)
        return
    for parent, group in itertools.groupby(_expand(source), _parent_of_file):
        paths = list(group)
        if parent is None:
            yield from (_walk(path, image_key) for path in paths)
        else:
            yield _named_files(parent, paths)


def _parent_of_file(path: Path) -> Path | None:
    return None if path.is_dir() else path.parent


def _expand(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir() or _is_record_file(path):
        return [path]
    if os.path.lexists(path):
        raise InputError(
            "a file in `--data` (`data.sources`) must be an image, a parquet file or a tar",
            repr(source),
            "For captions in metadata or text files give their folder.",
        )
    if not glob.has_magic(source):
        raise InputError(
            "each of `--data` (`data.sources`) must be a local path, a glob or `starter`",
            f"{source!r} (no such file or folder)",
        )
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    usable = [match for match in matches if match.is_dir() or _is_record_file(match)]
    if not usable:
        raise InputError(
            "a glob in `--data` (`data.sources`) must match folders, images, parquet files or tars",
            f"{source!r} with {len(matches)} other matches",
        )
    return usable


def _is_record_file(path: Path) -> bool:
    return path.is_file() and _kind(path) in RECORD_KINDS


def _kind(path: Path) -> str:
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if name in METADATA_NAMES and (suffix != ".parquet" or FILE_COLUMN in columns_of(path)):
        return "metadata"
    if suffix in image_suffixes():
        return "image"
    if suffix in CAPTION_SUFFIXES:
        return "caption"
    return {FIELDS_SUFFIX: "fields", ".parquet": "parquet"}.get(suffix, "")


def _named_files(parent: Path, paths: list[Path]) -> DataSource:
    """Files that the user named, with what lies beside them."""
    source = DataSource(parent, [SourceFile(path, path.name, _kind(path)) for path in paths])
    stems = {file.stem for file in source.files if file.kind == "image"}
    if stems:
        beside = (path for path in parent.iterdir() if path.stem in stems)
        kinds = ((path, _kind(path)) for path in sorted(beside) if path.is_file())
        source.files += [
            SourceFile(path, path.name, kind)
            for path, kind in kinds
            if kind in ("caption", "fields")
        ]
    return source


def _walk(root: Path, image_key: str | None) -> DataSource:
    source = DataSource(root)
    allowed = _allowed(root.resolve())
    visited: set[str] = set()
    folders, links = deque([root]), deque[Path]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        prefix = source.name_of(folder)
        for entry in _entries(folder, source):
            path, name = folder / entry.name, f"{prefix}/{entry.name}"
            reason = _refusal(entry, allowed)
            if reason:
                source.unused.append(Unused(name, reason))
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            else:
                _add(path, name, source, image_key)
    source.files.sort(key=lambda file: file.name)
    _drop_lone_texts(source)
    return source


def _allowed(root: Path) -> list[Path]:
    """Where links may lead: the source itself, and the blobs of a Hub cache's snapshot."""
    blobs = [folder.parent / "blobs" for folder in root.parents if folder.name == "snapshots"]
    return [root, *(folder for folder in blobs if folder.is_dir())]


def _entries(folder: Path, source: DataSource) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        source.unused.append(Unused(source.name_of(folder), "unreadable folder"))
        return []
    if folder != source.root and any(entry.name == ARTIFACT_FILE for entry in found):
        source.unused.append(Unused(source.name_of(folder), "folder that edgekd wrote"))
        return []
    return sorted(found, key=lambda entry: entry.name)


def _refusal(entry: os.DirEntry[str], allowed: list[Path]) -> str:
    """Why an entry is not followed or opened, or ""."""
    if entry.is_symlink():
        real = Path(os.path.realpath(entry.path))
        if not any(real.is_relative_to(folder) for folder in allowed):
            return "link that leaves the source"
        if not os.path.exists(entry.path):
            return "broken link"
    return "" if entry.is_file() or entry.is_dir() else "not a regular file"


def _add(path: Path, name: str, source: DataSource, image_key: str | None) -> None:
    kind = _kind(path)
    if kind == "parquet" and (columns := columns_of(path)) and not image_column(columns, image_key):
        source.unused.append(Unused(name, "parquet file without an image column"))
    elif kind:
        source.files.append(SourceFile(path, name, kind))
    else:
        source.unused.append(Unused(name, unread_format(path.suffix)))


def _drop_lone_texts(source: DataSource) -> None:
    """Leave texts out that no image has, so that a note in the folder changes no key."""
    stems = {file.stem for file in source.files if file.kind == "image"}
    kept = []
    for file in source.files:
        if file.kind in ("caption", "fields") and file.stem not in stems:
            source.unused.append(Unused(file.name, f"{file.path.suffix.lower()} without an image"))
        else:
            kept.append(file)
    source.files = kept
