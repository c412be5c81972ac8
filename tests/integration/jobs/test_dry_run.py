"""`edgekd distill --dry-run` as users call it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from edgekd.jobs import dry_run


@pytest.fixture(scope="module", autouse=True)
def rehearsed_once() -> Iterator[None]:
    """Tests that read the rehearsals of one recipe in several forms share them."""
    rehearse, found = dry_run._rehearse, {}

    def once(subject: Any, phase: str) -> Any:
        if phase not in found:
            found[phase] = rehearse(subject, phase)
        return found[phase]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dry_run, "_rehearse", once)
        yield


@pytest.fixture
def arguments(tiny_teacher, tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    settings = ["student.preset=bk-sdm-small", "distill.precision=fp32", "distill.threads=1"]
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["distill", "--dry-run", "--teacher", str(tiny_teacher), *sets]


def test_every_phase_is_told_and_nothing_is_left(arguments, tmp_path, run_cli):
    gpu = ("--gpu", "l4", "--gpu-price", "3.5")
    code, stdout, stderr = run_cli(*arguments, *gpu, "--json")
    assert code == 0, stderr
    found = json.loads(stdout)
    assert list(found["phases"]) == ["kd", "few_step", "decoder"]
    assert found["gpu"]["usd_per_hour"] == 3.5
    assert found["random_weights"] is False
    for plan in found["phases"].values():
        step = plan["rehearsal"]["step"]
        assert step["seconds"] > 0
        assert step["peak_bytes"] > step["held"]["teacher"]
        assert plan["memory_bytes"] >= sum(step["held"].values())
        assert plan["gpu"]["fits"]
    assert found["phases"]["few_step"]["rehearsal"]["drawing"]["expected_seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_people_read_the_same(arguments, tmp_path, run_cli):
    code, stdout, stderr = run_cli(*arguments)
    assert code == 0, stderr
    for words in (
        "kd: the first step",
        "few_step: the first step",
        "optimiser",
        "trajectories",
        "plan",
    ):
        assert words in stdout
    assert "hours" not in stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "toaster"], "`--gpu` must be one of l4"),
        (["--gpu-price", "1"], "`--gpu-price` must come with `--gpu`"),
        (["--gpu", "l4", "--gpu-price", "-1"], "above 0, but got -1"),
        (["--set", "distill.few_step.student_steps=3"], "must divide"),
        (["--teacher", "none"], "the teacher must be a local diffusers folder"),
    ],
)
def test_bad_input_is_one_line(words, said, arguments, run_cli):
    code, stdout, stderr = run_cli(*arguments, *words)
    assert (code, stdout) == (2, "")
    (line,) = stderr.strip().splitlines()
    assert said in line


def test_what_does_not_fit_is_planned_and_fails(arguments, run_cli, monkeypatch):
    monkeypatch.setattr("edgekd.jobs.dry_run.free_bytes", lambda: 2**20)
    code, stdout, stderr = run_cli(*arguments)
    assert code == 3
    assert "plan" in stdout
    assert "must fit in memory" in stderr.splitlines()[-1]


def test_a_gpu_is_for_dry_runs(run_cli):
    code, _, stderr = run_cli("distill", "--gpu", "h100")
    assert code == 2
    assert "`--gpu` must come with `--dry-run`" in stderr
