from dataclasses import replace
from typing import Any

import pytest
import torch

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batch, Batches
from edgekd.distill.objective import Nets, Objective, predict, total
from edgekd.errors import InputError
from edgekd.recipe_losses import LossSection
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


@pytest.mark.parametrize("term", ["feature", "self_attention", "cross_attention"])
def test_gradient_checkpointing_changes_no_gradient(small, term):
    gradients = []
    for enable in (
        small.student.disable_gradient_checkpointing,
        small.student.enable_gradient_checkpointing,
    ):
        enable()
        small.student.zero_grad()
        losses = {"task": 0, "output": 0, "feature": 0, "attention_layers": 20, term: 1}
        small.terms(**losses)[term].backward()
        # What feeds no attention any more has no gradient.
        gradients.append(
            [p.grad for p in small.student.down_blocks.parameters() if p.grad is not None]
        )
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


def test_what_terms_choose_changes_with_the_step(small):
    def value(choice: int) -> float:
        batch = replace(small.batch, choice=choice)
        section = LossSection(task=0, output=0, feature=0, self_attention=1, attention_layers=1)
        with Objective(small.nets, section, small.schedule, None) as objective:
            return objective.terms(batch)["self_attention"].item()

    values = [value(choice) for choice in range(6)]
    assert values == [value(choice) for choice in range(6)]
    assert len(set(values)) > 1


def test_balancing_makes_every_term_start_at_its_weight(small):
    section = LossSection(task=1, output=2, feature=0.5, balance="initial")
    objective = Objective(small.nets, section, small.schedule, None)
    balance = objective.calibrated([small.batch])
    with objective, torch.no_grad():
        terms = objective.terms(small.batch)
    weights = balance.at(0.0)
    weighted = {name: weights[name] * value.item() for name, value in terms.items()}
    assert weighted == pytest.approx({"task": 1.0, "output": 2.0, "feature": 0.5})


def test_without_balancing_nothing_is_measured(small):
    objective = Objective(small.nets, LossSection(), small.schedule, None)
    balance = objective.calibrated(pytest.fail("must not be asked for") for _ in range(1))
    assert balance.at(0.5) == LossSection().weights


def test_terms_inside_the_unet_fade_and_those_of_its_output_stay(small):
    section = LossSection(task=1, feature=0.4, activation_map=0.2, output_lift=1, hints_until=0.5)
    objective = Objective(small.nets, section, small.schedule, None)
    stay = {"task": 1.0, "output": 1.0, "output_lift": 1.0}
    for progress, factor in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (1.0, 0.0)):
        hints = {"feature": 0.4 * factor, "activation_map": 0.2 * factor}
        assert objective.calibrated([]).at(progress) == pytest.approx({**stay, **hints})


def test_hints_that_would_leave_nothing_are_refused(small):
    section = LossSection(task=0, output=0, feature=1, hints_until=0.5)
    with pytest.raises(InputError, match="must leave a term of the prediction, but got feature"):
        Objective(small.nets, section, small.schedule, None)
