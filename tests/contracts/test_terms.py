"""What every loss term keeps to, whichever it is."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.diffusion.taps import AttentionTap, Taps, TapValue
from edgekd.distill.batches import Batches
from edgekd.distill.objective import Nets, Objective, predict
from edgekd.distill.terms.registry import get_term
from edgekd.distill.terms.term import Forward, Tapped, Term
from edgekd.entries import TERMS, entries
from edgekd.recipe_losses import LOSS_OPTIONS, LossSection
from edgekd.student.build import build_student
from edgekd.student.resolve import full
from edgekd.training.draws import BatchPlan

INSTALLED = [get_term(name) for name in entries(TERMS)]
every_term = pytest.mark.parametrize("term", INSTALLED, ids=lambda term: term.name)
of_teacher = pytest.mark.parametrize(
    "term", [t for t in INSTALLED if t.needs_teacher], ids=lambda term: term.name
)
# Fewer queries and layers than there are: what is chosen must not break any rule.
OPTIONS = LossSection(attention_queries=5, attention_layers=2, attention_temperature=2.0)


def mapped(value: TapValue, change: Callable[[Tensor], Tensor]) -> TapValue:
    if isinstance(value, Tensor):
        return change(value)
    return replace(value, q=change(value.q), k=change(value.k), v=change(value.v))


def tensors(value: TapValue) -> list[Tensor]:
    return [value.q, value.k, value.v] if isinstance(value, AttentionTap) else [value]


def changed(forward: Forward, change: Callable[[Tensor], Tensor]) -> Forward:
    """With every tensor of it changed."""
    return replace(
        forward,
        prediction=change(forward.prediction),
        target=change(forward.target),
        weights=change(forward.weights),
        taught=change(forward.teacher_prediction),
        tapped=[
            Tapped(mapped(at.student, change), mapped(at.teacher, change)) for at in forward.tapped
        ],
    )


class Twins:
    """A small student and its teacher in fp64, with what a term sees of one batch."""

    def __init__(self, bench: Any, preset: str | None) -> None:
        self.teacher = copy.deepcopy(bench.teacher.unet).double()
        config = dict(self.teacher.config)
        self.arch = bench.arch(preset) if preset else full(config)
        self.student = build_student(self.teacher, self.arch)
        schedule = read_schedule(bench.teacher.scheduler)
        batches = Batches(bench.train, bench.teacher.info, bench.teacher.vae.config, schedule)
        batch = batches.training(0, range(3), BatchPlan(3), 0.1)
        self.batch = replace(
            batch,
            noisy_latents=batch.noisy_latents.double(),
            encoder_hidden_states=batch.encoder_hidden_states.double(),
            target=batch.target.double(),
        )

    @torch.no_grad()
    def forward(self, term: Term) -> Forward:
        pairs = term.pairs(self.arch, dict(self.teacher.config))
        ours = Taps(self.student, [pair.student for pair in pairs])
        theirs = Taps(self.teacher, [pair.teacher for pair in pairs])
        with ours, theirs:
            prediction = predict(self.student, self.batch, None)
            taught = predict(self.teacher, self.batch, None)
            tapped = [Tapped(ours[pair.student], theirs[pair.teacher]) for pair in pairs]
        weights = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
        return Forward(
            prediction, self.batch.target, weights, taught, tapped, choice=3, options=OPTIONS
        )


@pytest.fixture(scope="module")
def small(bench) -> Twins:
    return Twins(bench, "bk-sdm-small")


@pytest.fixture(scope="module")
def equal(bench) -> Twins:
    return Twins(bench, None)


def students(forward: Forward) -> tuple[list[Tensor], Callable[..., Forward]]:
    """The student's tensors as leaves, and the forward that has others in their place."""
    values = [forward.prediction, *(x for at in forward.tapped for x in tensors(at.student))]
    leaves = [value.detach().clone().requires_grad_() for value in values]

    def put(*others: Tensor) -> Forward:
        rest = iter(others)
        prediction = next(rest)
        tapped = [
            Tapped(mapped(at.student, lambda _: next(rest)), at.teacher) for at in forward.tapped
        ]
        return replace(forward, prediction=prediction, tapped=tapped)

    return leaves, put


@every_term
def test_gradients_are_those_of_finite_differences(term, small):
    forward = small.forward(term)
    # Far from the teacher LIFT's fine part has the weight 0 all around. Elsewhere its weight
    # moves too, and no gradient goes through a weight.
    leaves, put = students(replace(forward, prediction=1 + forward.teacher_prediction / 4))
    gradcheck = torch.autograd.gradcheck
    assert gradcheck(lambda *values: term(put(*values)), leaves, fast_mode=True)


@every_term
def test_it_is_a_finite_scalar_above_zero_with_a_gradient(term, small):
    leaves, put = students(small.forward(term))
    value = term(put(*leaves))
    assert value.shape == ()
    assert 0 < value.item() < float("inf")
    value.backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert max(gradient.abs().max() for gradient in gradients) > 0


@every_term
def test_it_says_whether_it_uses_the_prediction(term, small):
    leaves, put = students(small.forward(term))
    term(put(*leaves)).backward()
    assert (leaves[0].grad is not None) == term.uses_prediction


@of_teacher
def test_nothing_is_lost_where_the_student_is_the_teacher(term, equal):
    leaves, put = students(equal.forward(term))
    value = term(put(*leaves))
    # LIFT divides by a variance that is kept from 0, by 1e-8 of about 1.
    assert value.item() == pytest.approx(0.0, abs=1e-6)


@of_teacher
def test_no_gradient_goes_into_the_teacher(term, small):
    forward = small.forward(term)
    theirs = [
        forward.teacher_prediction,
        *(x for at in forward.tapped for x in tensors(at.teacher)),
    ]
    for tensor in theirs:
        tensor.requires_grad_()
    leaves, put = students(forward)
    term(put(*leaves)).backward()
    assert all(tensor.grad is None for tensor in theirs)


@every_term
def test_the_order_of_samples_does_not_matter(term, small):
    forward = small.forward(term)
    order = torch.tensor([2, 0, 1])
    other = term(changed(forward, lambda x: x[order]))
    assert other.item() == pytest.approx(term(forward).item(), rel=1e-9)


@every_term
def test_a_batch_is_the_mean_of_its_samples(term, small):
    """So that micro-batches and processes give the loss of the whole batch."""
    forward = small.forward(term)
    alone = [term(changed(forward, lambda x, i=i: x[i : i + 1])).item() for i in range(3)]
    assert sum(alone) / 3 == pytest.approx(term(forward).item(), rel=1e-9)


@every_term
def test_half_precision_is_computed_in_fp32(term, small):
    forward = small.forward(term)
    half = term(changed(forward, lambda x: x.bfloat16()))
    single = term(changed(forward, lambda x: x.bfloat16().float()))
    assert half.dtype == single.dtype == torch.float32
    assert half.item() == pytest.approx(single.item(), rel=1e-6)


@every_term
def test_a_step_chooses_the_same_again(term, small):
    forward = small.forward(term)
    assert torch.equal(term(forward), term(forward))


@every_term
def test_the_recipe_weighs_it_and_the_objective_runs_it(term, bench):
    assert term.name in LossSection.model_fields
    assert term.name not in LOSS_OPTIONS
    none = dict.fromkeys(LossSection().weights, 0.0)
    losses = LossSection.model_validate({**none, term.name: 2.0})
    unet, arch = bench.teacher.unet, bench.arch()
    schedule = read_schedule(bench.teacher.scheduler)
    batches = Batches(bench.train, bench.teacher.info, bench.teacher.vae.config, schedule)
    student = build_student(unet, arch)
    with Objective(Nets(student, unet, arch), losses, schedule, None) as objective:
        terms = objective.terms(batches.training(0, range(2), BatchPlan(2), 0.1))
        assert objective.calibrated([]).at(0.0) == {term.name: 2.0}
    assert list(terms) == [term.name]
    terms[term.name].backward()
    assert all(p.grad is None for p in unet.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())
