"""Typed hand-offs between stages.

Each names a finished folder and its `key`, the hash of the content of all its inputs. A stage
whose key is unchanged is not run again: see `edgekd.folders.finished`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.file_record import ARTIFACT_FILE as ARTIFACT_FILE
from edgekd.file_record import finish as finish
from edgekd.files import canonical_json as canonical_json
from edgekd.files import hash_file as hash_file
from edgekd.files import hash_tree as hash_tree
from edgekd.files import hash_value as hash_value
from edgekd.files import write_json as write_json
from edgekd.files import write_text as write_text
from edgekd.folders import atomic_folder as atomic_folder
from edgekd.folders import finished as finished
from edgekd.reading import read_json as read_json
from edgekd.run_folder import open_run as open_run
from edgekd.run_folder import run_lock as run_lock


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
