import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from accelerate import tracking

from edgekd.errors import InputError
from edgekd.recipe_distill import DistillSection
from edgekd.schema import validate
from edgekd.training.log import MetricsLog
from edgekd.training.trackers import MLFLOW_RUN, TrackedRun, check_trackers


class Recorder(tracking.GeneralTracker):
    """Keeps what it is told, as a tracker's server would, by the run's name or id."""

    requires_logging_directory = False
    runs: ClassVar[dict[str, list[Any]]] = {}
    asked: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options, self.started, self.finished = options, False, False
        self.asked.append(options)

    @property
    def tracker(self) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id=self._run))

    @property
    def _run(self) -> str:
        return str(self.options.get("run_id", "new"))

    def start(self) -> None:
        self.started = True

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert self.started
        self.runs.setdefault(self._run, []).append((step, values))

    def log_images(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        assert not options
        shapes = {name: image.shape for name, image in values.items()}
        self.runs.setdefault(self._run, []).append((step, shapes))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def recorder(monkeypatch) -> type[Recorder]:
    Recorder.runs, Recorder.asked = {}, []
    for name in ("mlflow", "wandb", "trackio"):
        named = type("Named", (Recorder,), {"name": name})
        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, named)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///elsewhere")
    return Recorder


def run(folder: Path, *names: str) -> TrackedRun:
    return TrackedRun(folder, "0123456789abcdef", names)


def scalars(board: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(board))
    events.Reload()
    return [(one.step, one.value) for one in events.Scalars(tag)]


def test_tensorboard_shows_scalars_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    with MetricsLog(tmp_path, -1, run(tmp_path, "tensorboard")) as log:
        log.write({"step": 1, "loss": 0.5})
        log.write({"step": 1, "validation_task": 0.25})
        log.picture("samples", image, 1)
    board = tmp_path / "tensorboard"
    assert scalars(board, "train/loss") == [(1, 0.5)]
    assert scalars(board, "validation/validation_task") == [(1, 0.25)]
    events = EventAccumulator(str(board))
    events.Reload()
    (shown,) = events.Images("samples")
    assert (shown.step, shown.height, shown.width) == (1, 4, 6)


def test_a_resumed_run_has_every_step_once_in_tensorboard(tmp_path):
    tracked = run(tmp_path, "tensorboard")
    with MetricsLog(tmp_path, -1, tracked) as log:
        for step in range(1, 6):
            log.write({"step": step, "loss": 1 / step})
    with MetricsLog(tmp_path, 3, tracked) as log:  # the checkpoint's step
        for step in range(4, 8):
            log.write({"step": step, "loss": 1 / step})
    found = scalars(tmp_path / "tensorboard", "train/loss")
    assert [step for step, _ in found] == list(range(1, 8))
    assert [value for _, value in found] == pytest.approx([1 / step for step in range(1, 8)])


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_other_trackers_are_told_each_row_once_in_one_run(tmp_path, recorder, name):
    tracked = run(tmp_path, name)
    image = np.zeros((4, 6, 3), np.uint8)
    with MetricsLog(tmp_path, -1, tracked) as log:
        for step in (1, 2, 3):
            log.write({"step": step, "loss": 0.5})
        log.write({"step": 3, "validation_task": 0.25})
        log.picture("samples", image, 3)
    with MetricsLog(tmp_path, 1, tracked) as log:
        for step in (2, 3):
            log.write({"step": step, "loss": 0.5})
        log.write({"step": 3, "validation_task": 0.25})
        log.write({"step": 4, "loss": 0.5})
    ((_, told),) = recorder.runs.items()
    rows = [(step, values) for step, values in told if "samples" not in values]
    assert rows == [
        *((step, {"train/loss": 0.5}) for step in (1, 2, 3)),
        (3, {"validation/validation_task": 0.25}),
        (4, {"train/loss": 0.5}),
    ]
    assert [one for one in told if "samples" in one[1]] == [(3, {"samples": (1, 4, 6, 3)})]
    first, second = recorder.asked
    if name == "mlflow":
        assert (tmp_path / MLFLOW_RUN).read_text() == second["run_id"]
        assert first["run_name"] == f"{tmp_path.name}-0123456789ab"
    else:
        assert first["name"] == second["name"] == f"{tmp_path.name}-0123456789ab"
        assert second["resume"] == "allow"


def test_without_trackers_nothing_but_rows_is_written(tmp_path):
    with MetricsLog(tmp_path, -1, run(tmp_path)) as log:
        log.write({"step": 1, "loss": 0.5})
        log.picture("samples", np.zeros((4, 4, 3), np.uint8), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_what_is_not_installed_names_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_trackers([])
    with pytest.raises(InputError, match=r"pip install 'edgekd\[wandb\]'") as error:
        check_trackers(["wandb"])
    assert "\n" not in str(error.value)


def test_an_unknown_tracker_is_refused_by_the_recipe():
    with pytest.raises(InputError, match="tensorboard"):
        validate(DistillSection, {"steps": 1, "trackers": ["abacus"]}, "recipe")
    assert DistillSection(steps=1).trackers == ["tensorboard"]
