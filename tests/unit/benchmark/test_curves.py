import json
from pathlib import Path

import pytest

from edgekd.benchmark.curves import load_curve, thin
from edgekd.errors import InputError


def write(path: Path, rows: list[object], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_terms_become_series_and_rates_do_not(tmp_path):
    rows = [
        {"step": 1, "loss": 2.0, "samples_per_s": 40.0, "final": False, "note": "x"},
        {"step": 1, "validation_task": 0.5},
        {"step": 2, "loss": float("nan")},
        {"step": 3, "loss": 1.0},
    ]
    curve = load_curve(write(tmp_path / "m.jsonl", rows))
    assert curve == {"loss": [(1.0, 2.0), (3.0, 1.0)], "validation_task": [(1.0, 0.5)]}


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = write(tmp_path / "m.jsonl", [{"step": 1, "loss": 2.0}], tail='{"step": 2, "lo')
    assert load_curve(path) == {"loss": [(1.0, 2.0)]}


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"line 2 of .* must be JSON"):
        load_curve(path)


def test_missing_metrics_are_an_error(tmp_path):
    with pytest.raises(InputError, match="training metrics must exist"):
        load_curve(tmp_path / "none.jsonl")


def test_thinning_keeps_the_mean_and_the_order():
    points = [(float(i), float(i % 7)) for i in range(1200)]
    thinned = thin(points, 100)
    assert len(thinned) == 100
    assert sum(y for _, y in thinned) / 100 == pytest.approx(sum(y for _, y in points) / 1200)
    assert [x for x, _ in thinned] == sorted(x for x, _ in thinned)
    assert thin(points[:50], 100) == points[:50]
