"""Rows that fail, are killed or never begin: each is its own, and the next run goes on.

Real processes draw, but toy pictures, and without torch.
"""

import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.benchmark import run as benchmark_module
from edgekd.benchmark import workers
from edgekd.benchmark.cases import Case
from edgekd.benchmark.run import STOPPED, MatrixRequest, benchmark
from edgekd.benchmark.suite import Suite
from edgekd.cli.app import INTERRUPTED
from edgekd.file_record import ARTIFACT_FILE
from edgekd.progress import Silent
from edgekd.report.schema import HeadlineRows, Report, read_report

ENTRIES = """
import os, pickle, signal, sys, time
from pathlib import Path
import numpy as np
from edgekd.errors import GateError
from edgekd.files import write_tensors

class Toy:
    extractor, scorer, key = "toy-r1", "toy", "toy"
    def __call__(self, images, captions):
        from edgekd.benchmark.extract import ShippedRows
        from edgekd.metrics.caption_fit import normalise, side_by_side
        features = images.mean(axis=(1, 2)).astype(np.float32)
        grey = np.ones((len(captions), 3), np.float32)
        return ShippedRows(features, side_by_side(normalise(features), normalise(grey)))

def draw(batch):
    name, notes = batch.case.model, Path(batch.case.path.parent)
    with open(notes / "drawn", "a") as stream:
        stream.write(name + "\\n")
    if not (notes / "healed").exists():
        if name == "nan":
            raise GateError("every generated picture must be finite", "NaN")
        if name == "defect":
            raise ZeroDivisionError("in the drawing")
        if name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        while name == "endless":
            time.sleep(0.1)
    seeds = np.array([[seed % 2**32, len(name)] for seed in batch.seeds])
    images = [np.random.default_rng(seed).integers(0, 255, (32, 32, 3)) for seed in seeds]
    write_tensors(batch.out, {"images": np.stack(images).astype(np.uint8)})

def main(request, out):
    from edgekd.benchmark import workers
    from edgekd.benchmark.run import benchmark
    from edgekd.cli import app
    from edgekd.progress import Silent

    class Verb:
        info = app.app.info
        def __call__(self, **options):
            benchmark(pickle.loads(Path(request).read_bytes()), Path(out), Silent(), Toy())

    workers.draw_batch = draw
    app.app = Verb()
    app.main()
"""
SUITE = Suite(
    name="toy",
    quality={"samples": 20, "batch_size": 10, "workers": 1, "kid_subset_size": 2, "kid_subsets": 2},
    speed=None,
    memory=False,
    embeddings=None,
    pictures=3,
)


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


def case(root: Path, name: str, role: Any = "student", **changes: Any) -> Case:
    """A row of a folder that is none but by its name; each has other content."""
    folder = root / "models" / name
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(f'{{"name": "{name}"}}')
    (folder / "scheduler/scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    return replace(Case(f"{name} row", role, "onnx", "fp32", folder, model=name), **changes)


def request_of(data: Any, cases: list[Case]) -> MatrixRequest:
    return MatrixRequest(SUITE, tuple(cases), data, "key")


def drawn(root: Path) -> list[str]:
    """Models in the order of the batches that were begun since the last call."""
    notes = root / "models" / "drawn"
    found = notes.read_text().split() if notes.exists() else []
    notes.unlink(missing_ok=True)
    return found


@pytest.fixture
def measured(entries, data, root, monkeypatch) -> Any:
    monkeypatch.setattr(workers, "draw_batch", entries.draw)

    def run(cases: list[Case]) -> Report:
        report = benchmark(request_of(data, cases), root / "out", Silent(), entries.Toy())
        return read_report(report.json_path)

    return run


def finished(root: Path) -> bool:
    return (root / "out" / ARTIFACT_FILE).exists()


def test_a_failed_row_says_why_and_stops_nothing(measured, root):
    gone = case(root, "gone", failed="parity must be above 40 dB, but got 3", path=root / "none")
    names = ("nan", "killed", "defect", "good")
    cases = [case(root, "teacher", "teacher"), gone, *(case(root, name) for name in names)]
    content = measured(cases)
    rows = {row.model: row for row in content.rows}
    assert [row.model for row in content.rows] == [one.model for one in cases]
    reasons = {
        "gone": "parity must be above 40 dB",
        "nan": "picture must be finite",
        "killed": "must fit in the memory",
        "defect": "ZeroDivisionError",
    }
    for name, reason in reasons.items():
        assert reason in (rows[name].failed or "")
        assert (rows[name].generation, rows[name].value("fd")) == (None, None)
        assert rows[name].unmeasured is None
    assert rows["gone"].value("size_bytes") is None
    assert rows["nan"].value("size_bytes") is not None
    for name in ("teacher", "good"):
        assert rows[name].absent is None
        assert rows[name].value("fd") is not None
    assert content.metrics.rows == HeadlineRows(teacher="teacher row", student="good row")
    assert content.partial is None
    assert "parity must be above 40 dB" in (root / "out" / "report.json").read_text()
    assert not finished(root)
    assert set(drawn(root)) == {"teacher", *names}

    (root / "models" / "healed").touch()
    cases[1] = case(root, "gone")
    again = measured(cases)
    assert [row.failed for row in again.rows] == [None] * len(cases)
    # 20 pictures of 9 captions are two batches; what was there is not drawn again.
    assert sorted(drawn(root)) == sorted([*reasons] * 2)
    assert rows["good"].figures == next(row for row in again.rows if row.model == "good").figures
    assert finished(root)
    assert (again.data.prompts, again.data.pictures) == (len(again.prompts), 20)
    assert again.data.prompts < 20


def test_a_suites_own_prompts_are_drawn_and_real_images_keep_their_captions(
    entries, data, root, monkeypatch
):
    monkeypatch.setattr(workers, "draw_batch", entries.draw)
    asked = ["a red fox", "<b>a door</b>"]
    suite = SUITE.model_copy(
        update={"quality": SUITE.quality.model_copy(update={"prompts": asked}), "pictures": 2}
    )
    cases = (case(root, "teacher", "teacher"), case(root, "good"))
    request = MatrixRequest(suite, cases, data, "own prompts")
    report = benchmark(request, root / "out", Silent(), entries.Toy())
    content = read_report(report.json_path)
    assert (content.prompts, content.data.prompts, content.data.pictures) == (asked, 2, 20)
    assert content.data.own_prompts
    assert content.data.real_images == sum(content.data.prompts_by_holdout.values()) > 2
    assert content.real["fd"] is not None
    assert all(row.value("fd") is not None for row in content.rows)
    page = report.html_path.read_text()
    assert "20 of 2 captions of the suite" in page
    assert "&lt;b&gt;a door" in page
    assert "held out</small>" not in page
    assert 'alt="real images: ' not in page


def partial_of(root: Path) -> Report:
    content = read_report(root / "out" / "report.json")
    assert content.partial == STOPPED
    assert [row.unmeasured for row in content.rows] == [None, STOPPED, STOPPED]
    assert [row.value("fd") is None for row in content.rows] == [False, True, True]
    assert (root / "out" / "report.html").is_file()
    assert not finished(root)
    return content


def test_ctrl_c_leaves_a_report_and_the_next_run_goes_on(measured, data, root, entries):
    names = ("teacher", "endless", "later")
    cases = [case(root, name, "teacher" if name == "teacher" else "student") for name in names]
    (root / "request").write_bytes(pickle.dumps(request_of(data, cases)))
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; import {entries.__name__} as entries; "
        f"entries.main({str(root / 'request')!r}, {str(root / 'out')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    notes, begun = root / "models" / "drawn", time.monotonic()
    while not (notes.exists() and "endless" in notes.read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < begun + 300
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate()
    assert process.returncode == INTERRUPTED, words
    first = partial_of(root)
    assert drawn(root)[:2] == ["teacher", "teacher"]

    (root / "models" / "healed").touch()
    content = measured(cases)
    assert content.partial is None
    assert [row.absent for row in content.rows] == [None] * 3
    assert content.rows[0].figures == first.rows[0].figures
    assert drawn(root) == ["endless"] * 2 + ["later"] * 2
    assert finished(root)


def test_a_termination_leaves_a_report_too(measured, root, monkeypatch):
    draw = benchmark_module.draw_missing

    def until_second(matrix, one, progress):
        if one.model == "second":
            raise SystemExit(128 + signal.SIGTERM)
        draw(matrix, one, progress)

    monkeypatch.setattr(benchmark_module, "draw_missing", until_second)
    names = ("second", "third")
    cases = [case(root, "teacher", "teacher"), *(case(root, name) for name in names)]
    with pytest.raises(SystemExit):
        measured(cases)
    partial_of(root)


def test_a_run_that_is_stopped_in_its_first_row_leaves_a_report(measured, root, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark_module, "draw_missing", stop)
    with pytest.raises(KeyboardInterrupt):
        measured([case(root, "teacher", "teacher"), case(root, "student")])
    content = read_report(root / "out" / "report.json")
    assert [row.unmeasured for row in content.rows] == [STOPPED] * 2
    assert STOPPED in (root / "out" / "report.html").read_text()


def test_a_teacher_that_fails_stops_no_student(measured, root):
    content = measured([case(root, "nan", "teacher"), case(root, "good")])
    assert "must be finite" in (content.rows[0].failed or "")
    assert content.rows[1].value("fd") is not None
    assert (content.nearness, content.metrics.rows.student) == ({}, "good row")
    assert (root / "out" / "report.html").is_file()
