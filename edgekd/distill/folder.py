"""The folder of a distillation run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgekd.artifacts import ARTIFACT_FILE
from edgekd.disk import writing
from edgekd.training.checkpoint import CHECKPOINTS, Checkpoints
from edgekd.training.log import METRICS_FILE

STUDENT = "student"
BOARD = "tensorboard"
# What a run writes into its folder.
OWN = (ARTIFACT_FILE, STUDENT, METRICS_FILE, BOARD, "samples", CHECKPOINTS)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes.

    Attributes:
        key: hash of everything that the result depends on; nothing of another key is used.
    """

    path: Path
    key: str

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / CHECKPOINTS, self.key)

    def clear(self) -> None:
        """Remove what a run of another key left: none of it belongs to this one."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for path in (self.path / name for name in OWN):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
