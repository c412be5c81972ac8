import json

import numpy as np
import pytest

from edgekd.training.log import MetricsLog, read_rows


def test_rows_after_the_checkpoint_are_forgotten(tmp_path):
    with MetricsLog(tmp_path, -1) as log:
        for step in range(5):
            log.write({"step": step, "loss": 1.0 / (step + 1)})
    path = tmp_path / "metrics.jsonl"
    with open(path, "a") as stream:
        stream.write('{"step": 5, "lo')  # killed while it wrote
    with MetricsLog(tmp_path, 2) as log:
        log.write({"step": 3, "loss": 9.0})
    assert [row["step"] for row in read_rows(path)] == [0, 1, 2, 3]
    assert read_rows(path)[-1]["loss"] == 9.0


def test_rows_can_be_read_at_once(tmp_path):
    with MetricsLog(tmp_path, -1) as log:
        log.write({"step": 0, "loss": 0.1})
        text = (tmp_path / "metrics.jsonl").read_text()
        assert json.loads(text) == {"step": 0, "loss": 0.1}


def test_what_is_not_finite_is_not_written(tmp_path):
    with MetricsLog(tmp_path, -1) as log, pytest.raises(ValueError, match="JSON compliant"):
        log.write({"step": 0, "loss": float("nan")})


def test_tensorboard_shows_scalars_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, -1, tmp_path / "tensorboard") as log:
        log.write({"step": 1, "loss": 0.5})
        log.write({"step": 1, "validation_task": 0.25})
        log.picture("samples", np.zeros((4, 4, 3), np.uint8), 1)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [s.value for s in events.Scalars("train/loss")] == [0.5]
    assert [s.value for s in events.Scalars("validation/validation_task")] == [0.25]
    assert len(events.Images("samples")) == 1
