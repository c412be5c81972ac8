"""Losses of a text encoder: least at the teacher, and with the right slope elsewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edgekd.distill.text_losses import angle, unexplained, variance


def draw(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(2, 5, 6, generator=source, dtype=torch.float64)


def left(ours: Tensor, target: Tensor) -> Tensor:
    return unexplained(ours, target, variance(target.detach()))


@pytest.mark.parametrize("loss", [left, angle])
def test_is_least_at_the_teacher_and_has_the_right_slope(loss: Callable[..., Tensor]) -> None:
    ours, target = draw(0).requires_grad_(True), draw(1).requires_grad_(True)
    assert loss(target, target).tolist() == pytest.approx([0, 0], abs=1e-12)
    loss(ours, target).sum().backward()
    assert target.grad is None
    direction, step = draw(2), 1e-6
    with torch.no_grad():
        rise = loss(ours + step * direction, target) - loss(ours - step * direction, target)
    torch.testing.assert_close(rise.sum() / (2 * step), (ours.grad * direction).sum())


def test_values():
    target = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])  # variances 1 and 0
    mean = target.mean(dim=(0, 1)).expand_as(target)
    assert float(variance(target)) == 0.5
    assert float(left(mean, target)) == pytest.approx(1)
    assert float(left(2 * mean - target, target)) == pytest.approx(4)
    # A channel that never changes has no say in the size.
    assert float(left(target + 1, target)) == pytest.approx(2)
    turned = torch.tensor([[[-5.0, 1.0], [3.0, 5.0]]])
    assert float(angle(turned, target)) == pytest.approx(0.5)
    assert float(angle(7 * target, target)) == pytest.approx(0, abs=1e-6)
