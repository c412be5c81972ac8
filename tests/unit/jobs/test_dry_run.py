"""What a dry run checks and plans before, and without, any step."""

from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.jobs import dry_run as module
from edgekd.jobs.dry_run import DryRun, dry_run, plan_phase, subject_of
from edgekd.jobs.dry_run_lines import lines, to_json
from edgekd.jobs.gpus import GPUS, UTILISATION, Gpu, plan_gpu
from edgekd.jobs.memory_plan import needed_bytes, static_bytes
from edgekd.progress import Silent
from edgekd.recipe import Recipe, load_recipe
from edgekd.resources import data_root

GIB = 2**30


def shipped(name: str, *assignments: str) -> Recipe:
    return load_recipe(data_root() / "configs" / f"{name}.yaml", list(assignments))


@pytest.mark.parametrize(
    ("name", "phases", "latents", "parameters"),
    [
        # Parameters as published, in millions: BK-SDM's tables, KOALA's table 1.
        ("sd15-bk-tiny", ("kd", "few_step", "decoder"), 64, 323),
        ("sd15-few-step", ("few_step", "decoder"), 64, 860),
        ("sd21-bk-small", ("kd", "few_step", "decoder"), 64, 486),
        ("sdxl-koala-700m", ("kd", "few_step", "decoder"), 128, 783),
    ],
)
def test_shipped_recipes_need_no_teacher(name, phases, latents, parameters):
    subject = subject_of(shipped(name))
    assert subject.phases == phases
    assert subject.latent_size == latents
    assert round(subject.student_parameters / 1e6) == parameters
    assert subject.student_macs <= subject.teacher_macs


def test_a_teacher_that_is_there_is_taken(tiny_teacher):
    subject = subject_of(shipped("sd15-bk-tiny", f"teacher.path={tiny_teacher}"))
    assert subject.teacher == tiny_teacher
    assert subject.latent_size == 512 // 4  # the tiny teacher's own factor


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("teacher.arch=null", "the teacher must be a local diffusers folder"),
        ("distill.few_step.student_steps=3", "must divide .* 1000, but got 3"),
        ("distill.few_step.teacher_steps=1001", "teacher_steps <= 1000"),
        ("student.preset=none", "the preset must be one of"),
        ("benchmark.suite=none", "`benchmark.suite` must name"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_weight_is_made(assignment, said):
    with pytest.raises(InputError, match=said):
        subject_of(shipped("sd15-bk-tiny", assignment))


def test_consistency_students_draw_in_any_number_of_steps():
    steps = "distill.few_step.student_steps=3"
    assert subject_of(shipped("sd15-bk-tiny", "distill.few_step.method=consistency", steps)).phases


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process, but got WORLD_SIZE=2"):
        dry_run(shipped("starter"), None, Silent())


def test_hours_follow_from_macs_at_the_assumed_utilisation():
    gpu = Gpu("some", memory_gib=24, tflops=100.0, usd_per_hour=2.0)
    macs = 100e12 * UTILISATION * 3600 / 2  # two FLOPs each: one hour
    plan = plan_gpu(gpu, macs, 24 * GIB)
    assert (plan.hours, plan.usd) == (pytest.approx(1.0), pytest.approx(2.0))
    assert plan.fits
    assert not plan_gpu(gpu, macs, 24 * GIB + 1).fits


def test_checkpointing_costs_time():
    plain, repeated = (
        plan_phase(
            subject_of(shipped("sd15-bk-tiny", f"distill.gradient_checkpointing={value}")),
            phase,
            None,
            None,
        ).tmacs
        for phase in ("kd",)
        for value in ("false", "true")
    )
    assert 1.05 * plain < repeated < 4 / 3 * plain


@pytest.fixture
def unrehearsed(monkeypatch) -> DryRun:
    """Of a recipe that this machine has not the memory for."""

    def refuse(*_: Any) -> None:
        pytest.fail("what does not fit must not be begun")

    recipe = shipped("sdxl-koala-700m", "data.sources=[no-such-images]")
    monkeypatch.setattr(module, "_rehearse", refuse)
    least = min(needed_bytes(subject_of(recipe), phase) for phase in recipe.distill.phases)
    monkeypatch.setattr(module, "free_bytes", lambda: least - 1)
    return dry_run(recipe, GPUS["h100"], Silent())


def test_what_does_not_fit_here_is_planned_only(unrehearsed):
    assert unrehearsed.too_large == ("kd", "few_step", "decoder")
    text = "\n".join(lines(unrehearsed))
    assert "random weights, `teacher.path` is not there" in text
    assert "random latents (not there: no-such-images)" in text
    assert "estimate, not measured" in text
    for plan in unrehearsed.phases:
        assert plan.memory_bytes == static_bytes(unrehearsed.subject, plan.phase)
        assert f"> {plan.memory_bytes / GIB:.1f} GiB" in text


def test_machines_get_the_same(unrehearsed):
    found = to_json(unrehearsed)
    assert found["random_weights"] is True
    assert found["missing_sources"] == ["no-such-images"]
    assert found["gpu"]["name"] == "h100"
    assert found["assumed"]["utilisation"] == UTILISATION
    assert list(found["phases"]) == ["kd", "few_step", "decoder"]
    for plan in found["phases"].values():
        assert plan["gpu"]["usd"] == pytest.approx(plan["gpu"]["hours"] * 2.69)


def test_a_recipe_outside_a_checkout_finds_its_images(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").touch()
    assert module._missing([str(tmp_path / "*.parquet"), "starter", "none"]) == ("none",)
    monkeypatch.chdir(tmp_path)
    assert module._missing([str(Path("a.parquet"))]) == ()
