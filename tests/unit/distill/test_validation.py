from typing import Any

import pytest

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batches
from edgekd.distill.objective import predict
from edgekd.distill.validation import Validation
from edgekd.student.build import build_student
from edgekd.student.resolve import full


def _validation(bench: Any, batch_size: int) -> Validation:
    schedule = read_schedule(bench.teacher.scheduler)
    batches = Batches(bench.validation, bench.teacher.info, bench.teacher.vae.config, schedule)
    return Validation(batches.validation(6, batch_size), bench.teacher.unet, None)


def test_a_full_student_is_as_good_as_its_teacher(bench):
    unet = bench.teacher.unet
    losses = _validation(bench, 6).measure(build_student(unet, full(dict(unet.config))))
    assert losses["validation_output"] == 0.0
    assert losses["validation_task"] == losses["validation_teacher_task"] > 0


def test_losses_are_plain_mean_squared_errors(bench):
    student = build_student(bench.teacher.unet, bench.arch())
    validation = _validation(bench, 6)
    losses = validation.measure(student)
    (batch,) = validation._batches
    error = (predict(student, batch, None) - batch.target).square().mean().item()
    assert losses["validation_task"] == pytest.approx(error, rel=1e-5)


def test_losses_do_not_depend_on_the_batch_size(bench):
    student = build_student(bench.teacher.unet, bench.arch())
    one, three = _validation(bench, 6).measure(student), _validation(bench, 4).measure(student)
    assert one == pytest.approx(three, rel=1e-5)


def test_the_teacher_runs_once(bench):
    student = build_student(bench.teacher.unet, bench.arch())
    validation = _validation(bench, 6)
    first = validation.measure(student)
    calls: list[int] = []
    handle = bench.teacher.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        assert validation.measure(student) == first
    finally:
        handle.remove()
    assert calls == []
