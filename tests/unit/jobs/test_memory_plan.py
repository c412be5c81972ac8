"""What a dry run says of a step's memory."""

import pytest

from edgekd.distill.step_cost import HeldBytes, PartCost, StepCost
from edgekd.jobs.dry_run import DryRunSubject, plan_phase, subject_of
from edgekd.jobs.gpus import GPUS
from edgekd.jobs.memory_plan import needed_bytes, static_bytes
from edgekd.jobs.rehearsal import Rehearsal
from edgekd.recipe import load_recipe
from edgekd.resources import data_root

HELD = HeldBytes(teacher=40, student=100, gradients=100, optimiser=200, average=100, beside=0)


def subject(name: str, *assignments: str) -> DryRunSubject:
    return subject_of(load_recipe(data_root() / "configs" / f"{name}.yaml", list(assignments)))


def rehearsed(precision: str, held: HeldBytes = HELD, beside: int = 0) -> Rehearsal:
    parts = {"student forward": PartCost(1.0, 5_000_000)}
    return Rehearsal(precision, 1.0, None, StepCost("cpu", 1.0, parts, held, 80, beside))


@pytest.mark.parametrize(("precision", "copies"), [("bf16", 50), ("fp32", 0)])
def test_memory_grows_with_the_micro_batch_alone(precision, copies):
    """Autocast's bf16 copies of the weights are no activations."""
    small = subject("sd15-bk-tiny", "distill.batch_size=7", "distill.gradient_accumulation=3")
    plan = plan_phase(small, "kd", rehearsed(precision), None)
    assert plan.memory_bytes == HELD.total + copies + 7 * (80 - copies)
    assert plan.samples == 21


def test_a_score_beside_the_student_is_counted():
    """SD 1.5's own U-Net twice: 20 bytes a parameter of the student, 16 of the fake score."""
    plain, scored = (
        subject("sd15-few-step", f"distill.few_step.method={method}")
        for method in ("consistency", "distribution")
    )
    unet = scored.unet_parameters
    assert round(unet / 1e6) == 860
    assert static_bytes(scored, "few_step") - static_bytes(plain, "few_step") == 16 * unet
    assert needed_bytes(scored, "few_step") - needed_bytes(plain, "few_step") == 16 * unet
    assert static_bytes(scored, "decoder") == static_bytes(plain, "decoder")
    gpu = GPUS["rtx-4090"]  # 24 GiB
    assert plan_phase(plain, "few_step", None, gpu).gpu.fits
    assert not plan_phase(scored, "few_step", None, gpu).gpu.fits


def test_the_larger_update_decides():
    scored = subject("sd15-few-step", "distill.few_step.method=distribution")
    batch_size = scored.recipe.distill.few_step.batch_size
    held = HeldBytes(*(40, 100, 100, 200, 100), beside=1600)
    for beside, largest in ((70, 80), (90, 90)):
        plan = plan_phase(scored, "few_step", rehearsed("fp32", held, beside), None)
        assert plan.memory_bytes == 540 + 1600 + batch_size * largest
    copies = 2 * scored.unet_parameters
    plan = plan_phase(scored, "few_step", rehearsed("bf16", held, copies + 90), None)
    assert plan.memory_bytes == 540 + 1600 + copies + batch_size * 90
