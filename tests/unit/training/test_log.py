import json

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
