"""Trackers that are told the rows of `metrics.jsonl`: accelerate's own, where installed.

Of processes that train together only the first one opens any. A run that goes on from a checkpoint
goes on in the same tracker's run, and no row is told twice: TensorBoard is told to forget the steps
after the checkpoint, and others are not told again what they know. (The rows are the same: see
`edgekd.training.draws`.)

None needs a network: events of TensorBoard and runs of MLflow are files in the phase's folder, and
so are those of wandb with `WANDB_MODE=offline`. Variables of their own (`MLFLOW_TRACKING_URI`,
`WANDB_MODE`, `TRACKIO_DIR`) send runs elsewhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.files import write_text

PROJECT = "edgekd"
BOARD = "tensorboard"
MLFLOW_RUN = "mlflow-run"
MLFLOW_STORE = "mlflow.db"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose packages are not there.

    Raises:
        InputError: one is not installed; the message names the command that does it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"the package of tracker `{name}` must be installed",
                f"no module named `{name}`",
                f"Install it: pip install 'edgekd[{name}]', or leave it out of `distill.trackers`.",
            )


@dataclass(frozen=True)
class TrackedRun:
    """One run, in the trackers' words.

    Attributes:
        folder: where it keeps what it makes.
        key: hash of everything that its result depends on.
        trackers: their names.
    """

    folder: Path
    key: str
    trackers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The same when the run is resumed: its phase, and what tells it from other runs."""
        return f"{self.folder.name}-{self.key[:12]}"


class Trackers:
    """The open trackers of a run.

    Args:
        step: last step that the run keeps; -1: none.
        told: rows after that step which an earlier process wrote, and this one will write again.
    """

    def __init__(self, run: TrackedRun, step: int, told: int) -> None:
        self._told = told
        self._open = {name: _open(name, run, step) for name in run.trackers}

    def write(self, row: dict[str, Any]) -> None:
        """Tell a row of `metrics.jsonl`."""
        values = {
            f"{'validation' if name.startswith('validation') else 'train'}/{name}": value
            for name, value in row.items()
            if name != "step"
        }
        for tracker in self._listening():
            tracker.log(values, step=row["step"])
        self._told = max(0, self._told - 1)

    def picture(self, name: str, image: Any, step: int) -> None:
        """Show an image, uint8 [H, W, 3], in trackers that accelerate shows images in."""
        for tracker in self._listening():
            if hasattr(tracker, "log_images"):
                layout = {"dataformats": "NHWC"} if tracker.name == BOARD else {}
                tracker.log_images({name: image[None]}, step=step, **layout)

    def close(self) -> None:
        for tracker in self._open.values():
            tracker.finish()

    def _listening(self) -> list[Any]:
        """Those that do not know yet what is written now."""
        return [tracker for name, tracker in self._open.items() if name == BOARD or not self._told]


def _open(name: str, run: TrackedRun, step: int) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's trackers ask it which process this is
    tracker = LOGGER_TYPE_TO_CLASS[name](**_OPTIONS[name](run, step))
    tracker.start()
    if name == "mlflow":
        write_text(run.folder / MLFLOW_RUN, tracker.tracker.info.run_id)
    return tracker


def _tensorboard(run: TrackedRun, step: int) -> dict[str, Any]:
    return {"run_name": BOARD, "logging_dir": str(run.folder), "purge_step": step + 1}


def _mlflow(run: TrackedRun, step: int) -> dict[str, Any]:
    local: dict[str, Any] = {}
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # MLflow 3 refuses its older store, a folder of files.
        store = (run.folder / MLFLOW_STORE).absolute()
        importlib.import_module("mlflow").set_tracking_uri(f"sqlite:///{store}")
        local = {"logging_dir": (run.folder / "mlflow").absolute().as_uri()}
    known = run.folder / MLFLOW_RUN
    going_on = step >= 0 and known.is_file()
    which = {"run_id": known.read_text("utf-8")} if going_on else {"run_name": run.name}
    return {"experiment_name": PROJECT, **which, **local}


def _wandb(run: TrackedRun, step: int) -> dict[str, Any]:
    resumed = {"id": run.name, "name": run.name, "resume": "allow"}
    return {"run_name": PROJECT, "dir": str(run.folder), **resumed}


def _trackio(run: TrackedRun, step: int) -> dict[str, Any]:
    return {"run_name": PROJECT, "name": run.name, "resume": "allow" if step >= 0 else "never"}


_OPTIONS: dict[str, Callable[[TrackedRun, int], dict[str, Any]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
    "trackio": _trackio,
}
