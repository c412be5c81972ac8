from __future__ import annotations

import pytest
import torch

from edgekd.distill.losses import (
    feature_distance,
    feature_loss,
    ordinary,
    weighted_mse,
)


def test_weighted_mse_weighs_samples() -> None:
    prediction = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    loss = weighted_mse(prediction, torch.zeros_like(prediction), torch.tensor([1.0, 0.5]))
    assert loss.item() == pytest.approx((1.0 * 1 + 0.5 * 9) / 2)


def test_no_gradient_goes_into_targets() -> None:
    a, b = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    (weighted_mse(a, b, torch.ones(2)) + feature_distance(a, b)).backward()
    assert a.grad is not None
    assert b.grad is None


def test_feature_distance_is_relative_to_the_teachers_power() -> None:
    teacher = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert feature_distance(teacher, teacher).item() == 0.0
    assert feature_distance(torch.zeros_like(teacher), teacher).item() == pytest.approx(1.0, 1e-5)
    close = feature_distance(1.1 * teacher, teacher)
    assert close.item() == pytest.approx(0.01, rel=1e-3)
    # The same relative error in a block a thousand times as strong costs the same.
    assert feature_distance(1100 * teacher, 1000 * teacher).item() == pytest.approx(
        close.item(), rel=1e-3
    )


def test_massive_activations_of_either_side_are_left_out() -> None:
    teacher = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    student = teacher.clone()
    student[0, 0, 0, 0] = 1e4
    assert not ordinary(student)[0, 0, 0, 0]
    assert feature_distance(student, teacher).item() == 0.0
    assert feature_distance(teacher, student).item() == 0.0


def test_constant_features_have_no_massive_values() -> None:
    assert bool(ordinary(torch.zeros(1, 2, 3, 3)).all())


def test_one_sample_does_not_hide_another() -> None:
    teacher = torch.ones(2, 1, 2, 2)
    teacher[0] = 1000.0
    student = torch.zeros_like(teacher)
    student[0] = 1000.0
    assert feature_distance(student, teacher).item() == pytest.approx(0.5, rel=1e-4)


def test_feature_loss_refuses_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        feature_loss([torch.zeros(1, 2, 4, 4)], [torch.zeros(1, 2, 2, 2)])
    with pytest.raises(ValueError, match="at least one"):
        feature_loss([], [])


def test_terms_of_bf16_tensors_are_computed_in_fp32() -> None:
    a = torch.randn(1, 2, 4, 4).bfloat16()
    assert weighted_mse(a, a, torch.ones(1)).dtype == torch.float32
    assert feature_distance(a, a).dtype == torch.float32
