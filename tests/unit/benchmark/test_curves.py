import json
from pathlib import Path

import pytest

from edgekd.benchmark.curves import load_cost, load_curve, thin
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


def test_what_steps_took_is_told_in_medians(tmp_path):
    rows = [
        {"step": 1, "samples_per_s": 1.0},
        *[
            {"step": n, "samples_per_s": 4.0, "student_forward_s": n, "EMA_s": 0.5, "peak_bytes": n}
            for n in (2, 3, 7)
        ],
        {"step": 7, "validation_task": 0.5},
    ]
    cost = load_cost(write(tmp_path / "m.jsonl", rows))
    assert cost.parts == {"student forward": 3.0, "EMA": 0.5}
    assert (cost.samples_per_s, cost.peak_bytes) == (4.0, 7)
    unmeasured = load_cost(write(tmp_path / "m.jsonl", rows[:1]))
    assert (unmeasured.parts, unmeasured.peak_bytes) == ({}, None)
    assert load_cost(write(tmp_path / "m.jsonl", rows[-1:])) is None
