import pytest
import torch

from edgekd.diffusion.taps import AttentionTap
from edgekd.distill.terms.feature import TERM, feature_distance, ordinary
from edgekd.distill.terms.term import Forward, Tapped


def test_feature_distance_is_relative_to_the_teachers_power():
    teacher = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert feature_distance(teacher, teacher).item() == 0.0
    assert feature_distance(torch.zeros_like(teacher), teacher).item() == pytest.approx(1.0, 1e-5)
    close = feature_distance(1.1 * teacher, teacher)
    assert close.item() == pytest.approx(0.01, rel=1e-3)
    # The same relative error in a block a thousand times as strong costs the same.
    assert feature_distance(1100 * teacher, 1000 * teacher).item() == pytest.approx(
        close.item(), rel=1e-3
    )


def test_massive_activations_of_either_side_are_left_out():
    teacher = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    student = teacher.clone()
    student[0, 0, 0, 0] = 1e4
    assert not ordinary(student)[0, 0, 0, 0]
    assert feature_distance(student, teacher).item() == 0.0
    assert feature_distance(teacher, student).item() == 0.0


def test_constant_features_have_no_massive_values():
    assert bool(ordinary(torch.zeros(1, 2, 3, 3)).all())


def test_one_sample_does_not_hide_another():
    teacher = torch.ones(2, 1, 2, 2)
    teacher[0] = 1000.0
    student = torch.zeros_like(teacher)
    student[0] = 1000.0
    assert feature_distance(student, teacher).item() == pytest.approx(0.5, rel=1e-4)


def test_no_gradient_goes_into_the_teacher():
    a, b = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    feature_distance(a, b).backward()
    assert a.grad is not None
    assert b.grad is None


def test_bf16_tensors_are_compared_in_fp32():
    a = torch.randn(1, 2, 4, 4).bfloat16()
    assert feature_distance(a, a).dtype == torch.float32


def test_it_is_the_mean_over_its_pairs():
    ones = torch.ones(1, 2, 4, 4)
    pairs = [Tapped(ones, ones), Tapped(0 * ones, ones)]
    value = TERM(Forward(ones, ones, torch.ones(1), ones, pairs))
    assert value.item() == pytest.approx(0.5, rel=1e-4)


def test_shapes_that_differ_and_attentions_are_refused():
    a, b = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match="shapes differ"):
        feature_distance(a, b)
    with pytest.raises(TypeError, match="not at attentions"):
        Tapped(a, AttentionTap(b, b, b, 1, 1.0)).features()
