"""The folder of one phase of a distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE, read_record
from edgekd.files import writing
from edgekd.training.checkpoint import CHECKPOINTS, Checkpoints
from edgekd.training.log import METRICS_FILE
from edgekd.training.trackers import BOARD, MLFLOW_RUN, TrackedRun

# What a run writes into its folder beside its result and its checkpoints.
OWN_FILES = (
    ARTIFACT_FILE,
    METRICS_FILE,
    MLFLOW_RUN,
    f"{BOARD}/events.out.tfevents.*",
    f"samples/step-{'[0-9]' * 8}.png",
)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes.

    Attributes:
        key: hash of everything that the result depends on; nothing of another key is used.
        part: the pipeline's component that the run trains.
        trackers: who is told how it goes.
    """

    path: Path
    key: str
    part: str = "unet"
    trackers: tuple[str, ...] = (BOARD,)

    @property
    def result(self) -> Path:
        """The trained component, in diffusers' layout."""
        return self.path / self.part

    @property
    def tracked(self) -> TrackedRun:
        return TrackedRun(self.path, self.key, self.trackers)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / CHECKPOINTS, self.key)

    def check_processes(self, count: int) -> None:
        """Let no launch of other processes remove what took a launch of some to train.

        Raises:
            InputError: what is here has another key, and was trained by another number.
        """
        found = [read_record(self.path), *self.checkpoints.records()]
        records = [record for record in found if record]
        if any(record["key"] == self.key for record in records):
            return
        for record in records:
            began = record.get("processes", count)
            if began != count:
                raise InputError(
                    f"`{self.path}` was trained by {began} process(es): to go on, others must have "
                    "its settings and its samples a step (`batch_size` x `gradient_accumulation` "
                    "x processes)",
                    f"{count} process(es) with others",
                    "Change `batch_size` or `gradient_accumulation`, or give another `--out`.",
                )

    def clear(self) -> None:
        """Remove what a run of another key left, and nothing of the user's.

        Its result stays until this run's takes its place.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints.clear()
            for pattern in OWN_FILES:
                for path in self.path.glob(pattern):
                    path.unlink()
