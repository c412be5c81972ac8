"""One step of each phase: what is measured of it, and what is left behind."""

from typing import Any, get_args

import pytest
import torch

from edgekd.diffusion.load import load_teacher
from edgekd.distill.step_cost import AVERAGE, BACKWARD, OPTIMISER, STUDENT, TEACHER
from edgekd.jobs.dry_run import order_of, subject_of
from edgekd.jobs.memory_plan import static_bytes
from edgekd.jobs.rehearsal import of_one_sample, rehearse
from edgekd.recipe import Recipe
from edgekd.recipe_distill import DistillSection, PhaseName

PARTS = {STUDENT, BACKWARD, OPTIMISER, AVERAGE}


def recipe(teacher: Any, **changed: Any) -> Recipe:
    few = {"trajectories": 100, "validation_samples": 20, "teacher_steps": 6, "student_steps": 4}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"path": str(teacher), "arch": "sd15"},
            "student": {"preset": "bk-sdm-small"},
            "distill": {"batch_size": 8, "precision": "fp32", "few_step": few},
            **changed,
        }
    )


def parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("phase", get_args(PhaseName))
def test_tensors_are_counted_and_parts_told_apart(phase, tiny_teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subject = subject_of(recipe(tiny_teacher))
    found = rehearse(order_of(subject, phase))
    step, held, student = found.step, found.step.held, subject.taught_parameters(phase)
    assert step.device == "cpu"
    assert set(step.parts) >= PARTS
    # The teacher's trajectories are drawn before.
    assert (TEACHER in step.parts) == (phase != "few_step")
    assert all(part.seconds > 0 for part in step.parts.values())
    assert sum(part.seconds for part in step.parts.values()) == pytest.approx(step.seconds)
    teacher = load_teacher(tiny_teacher)
    models = (teacher.unet, teacher.vae, *teacher.text_encoders)
    assert held.teacher == 4 * sum(map(parameters, models)) == 4 * subject.teacher_parameters
    assert held.student == held.average
    assert held.gradients == 4 * student or phase == "decoder"
    # All learns but the embeddings of tokens and positions.
    assert (held.student > held.gradients) == (phase == "text_encoder")
    # Adam's two moments, and a counter of each tensor.
    assert 2 * held.gradients < held.optimiser < 2.1 * held.gradients
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["consistency", "distribution"])
def test_every_method_of_few_steps_is_rehearsed(method, tiny_teacher):
    few = {"method": method, "student_steps": 1, "fake_updates": 1}
    distill = {"precision": "fp32", "few_step": few}
    # At 128 the fake score's activations are some 15 MB.
    subject = subject_of(recipe(tiny_teacher, distill=distill, data={"resolution": 128}))
    found = rehearse(order_of(subject, "few_step"))
    assert found.drawing is None
    assert TEACHER in found.step.parts
    step, held, matching = found.step, found.step.held, method == "distribution"
    # Consistency's target is the average.
    assert held.average == held.student
    # Weights, gradients and Adam's two moments with a counter of each tensor.
    beside = 16 * subject.beside_parameters("few_step")
    assert beside == matching * 16 * parameters(load_teacher(tiny_teacher).unet)
    assert beside <= held.beside <= 1.05 * beside
    assert ("fake score forward" in step.parts) == matching
    assert ("target forward" in step.parts) != matching
    assert (step.beside_working_bytes > 2_000_000) == matching
    assert held.total == pytest.approx(static_bytes(subject, "few_step"), rel=0.02)


def test_a_narrowed_student_is_compared_at_its_teachers_width(tiny_teacher):
    """Its features need the projections that training gives it."""
    stages = [{}, {}, {"width": 48}, {"width": 48}]
    student = {"preset": None, "arch": {"stages": stages}}
    subject = subject_of(recipe(tiny_teacher, student=student))
    held = rehearse(order_of(subject, "kd")).step.held
    assert held.student > 4 * subject.student_parameters


def test_trajectories_are_extrapolated(tiny_teacher):
    drawing = rehearse(order_of(subject_of(recipe(tiny_teacher)), "few_step")).drawing
    assert drawing.done == 4
    assert drawing.needed == (100 + 20) * 8  # 6 steps in 4 equal intervals are 8
    assert drawing.expected_seconds == pytest.approx(drawing.seconds * 240)


@pytest.mark.parametrize("phase", get_args(PhaseName))
def test_an_architecture_stands_in_for_a_teacher(phase, tiny_architecture, tmp_path):
    other = recipe(tmp_path / "none", data={"resolution": 32}, student={"preset": "bk-sdm-base"})
    if phase != "kd":
        other = recipe(tmp_path / "none", student={"preset": "full"})
    subject = subject_of(other)
    assert subject.teacher == tiny_architecture
    found = rehearse(order_of(subject, phase))
    assert found.step.held.teacher == 4 * subject.teacher_parameters
    if phase != "decoder":
        assert found.step.held.gradients == 4 * subject.taught_parameters(phase)


def test_a_larger_size_needs_more_memory(tiny_teacher):
    """The tiny teacher's pictures have sides of 32; at 256 its activations are some 60 MB."""
    small, large = (
        rehearse(order_of(subject_of(recipe(tiny_teacher, data={"resolution": side})), "kd")).step
        for side in (32, 256)
    )
    assert large.working_bytes > small.working_bytes + 10_000_000
    assert large.held == small.held


def test_each_loop_is_shrunk_to_one_sample():
    section = of_one_sample(
        DistillSection.model_validate(
            {"batch_size": 8, "gradient_accumulation": 4, "few_step": {"batch_size": 8}}
        )
    )
    for loop in (section, section.few_step, section.decoder, section.text_encoder):
        assert (loop.batch_size, loop.gradient_accumulation, loop.validation_samples) == (1, 1, 1)


def test_no_hook_stays(bench, tmp_path):
    from edgekd.distill.step_cost import measure_step

    trainer = bench.trainer(tmp_path / "run")
    before = [p.detach().clone() for p in trainer.student.parameters()]
    measure_step(trainer)
    moved = zip(before, trainer.student.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)
    modules = (trainer.student, bench.teacher.unet, bench.teacher.vae.encoder)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    assert not (tmp_path / "run").exists()
