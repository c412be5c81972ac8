import numpy as np
import pytest
import torch

from edgekd.distill.terms.output_lift import fit, group_by_error, lift, parts
from edgekd.errors import InputError

S = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOISE = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
T = 0.8 * S + 0.1 + 0.3 * NOISE


def test_the_fit_is_numpys():
    """Against an outside reference, per sample and group."""
    ours, theirs = S.view(3, 4, 8), T.view(3, 4, 8)
    offset, slope = fit(ours, theirs)
    for sample in range(3):
        for group in range(4):
            b1, b0 = np.polyfit(ours[sample, group].numpy(), theirs[sample, group].numpy(), 1)
            assert slope[sample, group].item() == pytest.approx(b1, rel=1e-6)
            assert offset[sample, group].item() == pytest.approx(b0, rel=1e-6)


def test_a_line_is_all_coarse():
    coarse, fine = parts(S.view(3, 1, -1), 1.5 * S.view(3, 1, -1) - 0.25)
    assert torch.allclose(coarse, torch.full((3, 1), 0.75, dtype=torch.float64))
    assert fine.max().item() == pytest.approx(0.0, abs=1e-12)


def test_the_weight_of_the_rest_rises_as_the_coarse_part_falls():
    coarse, fine = parts(S.view(3, 1, -1), T.view(3, 1, -1))
    assert lift(S, T).item() == pytest.approx((coarse + (1 - coarse) * fine).mean().item())
    far = lift(S / 5, T)
    assert far.item() == pytest.approx(
        parts(S.view(3, 1, -1) / 5, T.view(3, 1, -1))[0].mean().item()
    )


def test_the_gradient_is_that_of_fixed_weights():
    student = S.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(lift(student, T), student)
    coarse = parts(S.view(3, 1, -1), T.view(3, 1, -1))[0]
    weight = 1 - coarse.clamp(max=1)
    ways = torch.randn(5, *S.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for way in ways:
        values = []
        for sign in (1, -1):
            moved = (S + sign * 1e-5 * way).view(3, 1, -1)
            new_coarse, new_fine = parts(moved, T.view(3, 1, -1))
            values.append((new_coarse + weight * new_fine).mean().item())
        slope = (values[0] - values[1]) / 2e-5
        assert (gradient * way).sum().item() == pytest.approx(slope, rel=1e-5)


def test_groups_are_of_one_size_and_rise_in_error():
    ours, theirs = group_by_error(S.flatten(1), T.flatten(1), 4)
    assert ours.shape == theirs.shape == (3, 4, 8)
    errors = (theirs - ours).abs()
    assert (errors[:, 1:].min(dim=2).values >= errors[:, :-1].max(dim=2).values).all()
    assert torch.equal(ours.flatten(1).sort().values, S.flatten(1).sort().values)


def test_one_line_for_each_group_fits_better_than_one_for_all():
    fine = [
        parts(*group_by_error(S.flatten(1), T.flatten(1), groups))[1].mean().item()
        for groups in (1, 4)
    ]
    assert fine[1] < fine[0]


def test_groups_that_do_not_divide_a_prediction_are_refused():
    with pytest.raises(InputError, match="must divide the 32 elements of a prediction, but got 3"):
        lift(S, T, 3)


def test_a_constant_prediction_has_a_finite_gradient():
    student = torch.zeros(1, 2, 4, 4, requires_grad=True)
    lift(student, T[:1]).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
