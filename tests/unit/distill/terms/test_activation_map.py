import pytest
import torch
from fixtures.unets import NARROW, THREE
from torch import nn

from edgekd.distill.terms.activation_map import activation_map, blocks, map_distance
from edgekd.student.arch import StageArch, StudentArch

A = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
B = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_maps_are_normalised_energies():
    expected = nn.functional.normalize(A.pow(2).sum(1).flatten(1), dim=1)
    assert torch.allclose(activation_map(A), expected)


def test_widths_may_differ_and_it_is_twice_one_minus_the_cosine():
    """An outside reference: `||a - b||^2 = 2 - 2 cos(a, b)` of maps of length 1."""
    energies = [x.pow(2).sum(1).flatten(1) for x in (A, B)]
    expected = (2 - 2 * nn.functional.cosine_similarity(*energies)).mean()
    assert map_distance(A, B).item() == pytest.approx(expected.item())


def test_scale_sign_and_order_of_channels_do_not_matter():
    turned = -7 * A[:, torch.randperm(6, generator=torch.Generator().manual_seed(2))]
    assert map_distance(turned, A).item() == pytest.approx(0.0, abs=1e-12)
    assert map_distance(turned, B).item() == pytest.approx(map_distance(A, B).item())


def test_it_lies_between_equal_and_disjoint_maps():
    left, right = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    left[..., 0], right[..., 1] = 3.0, 5.0
    assert map_distance(left, right).item() == pytest.approx(2.0)
    assert map_distance(left, left).item() == 0.0


def test_silent_features_have_a_finite_gradient():
    silent = torch.zeros(1, 2, 2, 2, requires_grad=True)
    map_distance(silent, torch.ones(1, 2, 2, 2)).backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


def test_resolutions_that_differ_are_refused():
    with pytest.raises(ValueError, match="resolutions differ"):
        map_distance(A, B[:, :, :2])


def test_narrowed_stages_are_compared():
    assert len(blocks(StudentArch(stages=NARROW), THREE)) == 7
    assert len(blocks(StudentArch(stages=(StageArch(),) * 3), THREE)) == 7
