from typing import Any

import pytest
import torch

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batch, Batches
from edgekd.distill.objective import Nets, Objective, predict, total
from edgekd.recipe import LossSection
from edgekd.student.build import build_student
from edgekd.student.resolve import full
from edgekd.training.draws import BatchPlan


class Setup:
    def __init__(self, bench: Any, arch: Any) -> None:
        self.teacher = bench.teacher.unet
        self.schedule = read_schedule(bench.teacher.scheduler)
        self.student = build_student(self.teacher, arch)
        self.nets = Nets(self.student, self.teacher, arch)
        batches = Batches(bench.train, bench.teacher.info, bench.teacher.vae.config, self.schedule)
        self.batch: Batch = batches.training(0, range(2), BatchPlan(2), 0.1)

    def terms(self, **losses: Any) -> dict[str, torch.Tensor]:
        section = LossSection.model_validate(losses)
        with Objective(self.nets, section, self.schedule, None) as objective:
            return objective.terms(self.batch)


@pytest.fixture
def small(bench) -> Setup:
    return Setup(bench, bench.arch())


def test_terms_are_what_their_formulas_say(small):
    terms = small.terms(task=1, output=1, feature=1, min_snr_gamma=None)
    with torch.no_grad():
        ours = predict(small.student, small.batch, None)
        theirs = predict(small.teacher, small.batch, None)
    assert terms["task"].item() == pytest.approx((ours - small.batch.target).square().mean().item())
    assert terms["output"].item() == pytest.approx((ours - theirs).square().mean().item())
    assert terms["feature"].item() > 0


def test_a_full_student_has_no_distance_to_its_teacher(bench):
    setup = Setup(bench, full(dict(bench.teacher.unet.config)))
    terms = setup.terms(task=1, output=1, feature=1)
    assert terms["output"].item() == 0.0
    assert terms["feature"].item() == 0.0
    assert terms["task"].item() > 0


def test_without_kd_the_teacher_does_not_run(small):
    calls = []
    handle = small.teacher.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        assert set(small.terms(task=1, output=0, feature=0)) == {"task"}
        assert calls == []
        assert set(small.terms(task=0, output=1, feature=0)) == {"output"}
        assert calls == [1]
    finally:
        handle.remove()


def test_the_teacher_gets_no_gradient_and_every_student_weight_does(small):
    total(
        small.terms(task=1, output=1, feature=1), {"task": 1, "output": 1, "feature": 1}
    ).backward()
    assert all(p.grad is None for p in small.teacher.parameters())
    assert all(p.grad is not None for p in small.student.parameters())


def test_gradient_checkpointing_changes_no_gradient(small):
    gradients = []
    for enable in (
        small.student.disable_gradient_checkpointing,
        small.student.enable_gradient_checkpointing,
    ):
        enable()
        small.student.zero_grad()
        small.terms(task=0, output=0, feature=1)["feature"].backward()
        gradients.append([p.grad for p in small.student.down_blocks.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))
    assert any(g.abs().max() > 0 for g in gradients[1])


def test_no_hook_stays(small):
    small.terms(task=1, output=1, feature=1)
    for unet in (small.student, small.teacher):
        assert not any(m._forward_hooks for m in unet.modules())


def test_bf16_autocast_leaves_losses_in_fp32(small):
    section = LossSection(task=1, output=1, feature=1)
    with Objective(small.nets, section, small.schedule, torch.bfloat16) as objective:
        terms = objective.terms(small.batch)
    exact = small.terms(task=1, output=1, feature=1)
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)
        assert value.item() != exact[name].item()
