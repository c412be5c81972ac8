"""What verbs do on a cluster: the same bytes and figures as without, whatever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixtures.clusters import ray_processes

from edgekd.benchmark.cases import Case
from edgekd.benchmark.drawing import draw_missing
from edgekd.benchmark.run import MatrixRequest, make_matrix
from edgekd.benchmark.suite import load_suite
from edgekd.file_record import PARTS_FILE
from edgekd.jobs.plan import make_plan
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.short_distillation import distil_here, distil_on
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.resources import find_yaml
from edgekd.search.candidate import Candidate
from edgekd.student.resolve import full
from edgekd.target import load_target

pytestmark = pytest.mark.xdist_group("ray")

SPLIT = {"group_fraction": 0.2, "image_fraction": 0.2}
VERB = "import sys; from edgekd.cli import main; main()"
PATIENCE_S = 300


class Killing(Silent):
    """Kills all workers of a cluster when the first part of some work is done."""

    def __init__(self) -> None:
        self.killed = 0

    def track(self, label: str, total: int | None) -> Any:
        if label != "encode with the teacher":
            return super().track(label, total)
        return _Killing(self)


class _Killing:
    def __init__(self, owner: Killing) -> None:
        self._owner = owner

    def __enter__(self) -> Any:
        return self._advance

    def __exit__(self, *_: object) -> None:
        pass

    def _advance(self, n: int, resumed: bool = False) -> None:
        if not self._owner.killed:
            for process in ray_processes(os.getpid()):
                process.kill()
                self._owner.killed += 1


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def recipe_of(folder: Path, teacher: Path, **changes: Any) -> Recipe:
    loop = {"steps": 2, "validation_samples": 2, "validate_every": 2}
    few = {**loop, "trajectories": 4, "teacher_steps": 2, "student_steps": 2}
    data = {"sources": [str(folder)], "resolution": 32, "shard_samples": 8, "workers": 1}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"path": str(teacher)},
            "data": {**data, "split": SPLIT},
            "student": {"preset": "full"},
            "distill": {**loop, "phases": ["few_step"], "threads": 1, "few_step": few},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory, fill_folder) -> Path:
    folder = fill_folder(tmp_path_factory.mktemp("data") / "set", 60)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))  # of old files the hash is remembered, of new ones it may not be
    return folder


@pytest.fixture(scope="module")
def recipe(images, shallow_teacher) -> Recipe:
    return recipe_of(images, shallow_teacher)


@pytest.fixture(scope="module")
def here(tmp_path_factory, recipe, shallow_teacher) -> Any:
    """The data and the cache that this process makes alone."""
    run = tmp_path_factory.mktemp("here")
    return prepare_data(recipe, shallow_teacher, run, Silent())


def test_prepare_writes_the_same_bytes_though_all_workers_are_killed(
    cluster, recipe, here, shallow_teacher, tmp_path
):
    killing = Killing()
    data, cache = prepare_data(recipe, shallow_teacher, tmp_path, killing, cluster)
    assert killing.killed > 0
    assert replace(data, root=here[0].root) == here[0]
    assert replace(cache, root=here[1].root) == here[1]
    for made, expected in zip((data, cache), here, strict=True):
        assert contents(made.root) == contents(expected.root)


def test_pictures_are_the_same(cluster, here, shallow_teacher, tmp_path):
    case = Case("teacher", "teacher", "torch", "fp32", shallow_teacher)
    suite = load_suite(find_yaml("benchmarks", "smoke"))
    request = MatrixRequest(suite, (case,), here[0], "key")
    drawn = []
    for name, where in (("alone", None), ("cluster", cluster)):
        asked = replace(request, cluster=where)
        matrix = make_matrix(asked, (), tmp_path / name, Silent())
        draw_missing(matrix, matrix.cases[0], Silent())
        drawn.append(contents(tmp_path / name))
    assert drawn[0] == drawn[1]
    assert drawn[0]


def test_short_distillations_give_the_same_figures(cluster, recipe, here, tmp_path):
    plan = make_plan(recipe, load_target("onnx"), tmp_path)
    arch = full(read_json(plan.teacher.path / "unet" / "config.json"))
    candidates = [
        Candidate(arch=arch, decoder_width=1, steps=steps, precision="fp32") for steps in (2, 1)
    ]
    alone = distil_here(plan, here[1], tmp_path / "distill", Silent())
    expected = dict(enumerate(quality for _, quality in alone(candidates, 2)))
    beside = distil_on(cluster, plan, here[1], tmp_path / "short")
    found = {candidates.index(one): quality for one, quality in beside(candidates, 2)}
    assert found == expected
    assert expected[0] != expected[1]


def test_a_lost_head_is_one_line_and_the_next_run_goes_on(
    tmp_path_factory, fill_folder, shallow_teacher, tmp_path
):
    folder = fill_folder(tmp_path_factory.mktemp("many") / "set", 200)
    verb = ["prepare", "--data", str(folder), "--teacher", str(shallow_teacher), "--json"]
    sets = {"data.resolution": 32, "data.shard_samples": 4, "data.workers": 1}
    verb += ["--out", str(tmp_path / "run"), *(f"--set={k}={v}" for k, v in sets.items())]
    log = tmp_path / "log"
    with open(log, "wb") as stream:
        process = subprocess.Popen([sys.executable, "-c", VERB, *verb, "--ray"], stderr=stream)
    try:
        stamps = _first_parts(process, tmp_path / "run")
        for worker in ray_processes(process.pid):  # so that it cannot end before the loss is seen
            worker.send_signal(signal.SIGSTOP)
        (head,) = ray_processes(process.pid, "gcs_server")
        below = psutil.Process(process.pid).children(recursive=True)
        head.kill()
        assert process.wait(PATIENCE_S) == 1
    finally:
        process.kill()
    lines = log.read_text().splitlines()
    assert [line for line in lines if "Error" in line or "Traceback" in line] == []
    assert lines[-1].startswith(
        "edgekd: the head of the Ray cluster must live to the end of the work, but got no answer"
    )
    assert psutil.wait_procs(below, timeout=60)[1] == []
    again = [sys.executable, "-c", VERB, *verb]
    done = subprocess.run(again, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cache = tmp_path / "run" / "cache"
    assert {name: (cache / name).stat().st_mtime_ns for name in stamps} == stamps


def _first_parts(process: subprocess.Popen[bytes], run: Path) -> dict[str, int]:
    """The first files of a growing cache that are known to be whole, and when they were written."""
    until = time.monotonic() + PATIENCE_S
    while True:
        for record in run.glob(f".cache.*.partial/{PARTS_FILE}"):
            lines = record.read_text().splitlines(keepends=True)
            names = [json.loads(line)["name"] for line in lines if line.endswith("\n")]
            if names:
                return {name: (record.parent / name).stat().st_mtime_ns for name in names}
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
