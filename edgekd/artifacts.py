"""Typed hand-offs between stages.

Each names a finished folder and its `key`, the hash of the content of all its inputs. A stage
whose key is unchanged is not run again: see `edgekd.folders.finished`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
class Trajectories:
    """A teacher's pictures with the way to them. See `edgekd.distill.trajectories`."""

    root: Path
    key: str


@dataclass(frozen=True)
class TrainedPart:
    """What a phase trained, in diffusers' layout, and the log of its training.

    Attributes:
        path: a component's folder, or a folder of several.
    """

    path: Path
    key: str
    metrics_path: Path

    @property
    def components(self) -> dict[str, Path]:
        """Folders of the components by their names in a pipeline."""
        one = (self.path / "config.json").is_file()
        inside = (path for path in sorted(self.path.iterdir()) if path.is_dir())
        return {path.name: path for path in ([self.path] if one else inside)}


@dataclass(frozen=True)
class StudentCheckpoint:
    """A diffusers pipeline folder that holds a distilled student.

    Attributes:
        curves: log of each phase of its training, by the phase's name.
    """

    path: Path
    key: str
    curves: Mapping[str, Path]


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
