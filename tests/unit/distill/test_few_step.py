import pytest
import torch

from edgekd.distill.few_step import pseudo_huber


def test_pseudo_huber_is_absolute_far_away_and_square_nearby():
    zero = torch.zeros(1, 1, 1, 1)
    assert pseudo_huber(zero, zero) == 0
    assert float(pseudo_huber(zero + 5, zero, 0.01)) == pytest.approx(5 - 0.01, rel=1e-5)
    assert float(pseudo_huber(zero + 1e-3, zero, 1.0)) == pytest.approx(0.5e-6, rel=0.1)


def test_pseudo_huber_gives_the_target_no_gradient_and_the_latents_the_right_one():
    source = torch.Generator().manual_seed(0)
    latents, target = torch.randn(2, 2, 1, 4, 4, generator=source).requires_grad_()
    (gradient,) = torch.autograd.grad(pseudo_huber(latents, target, 0.1), latents)
    error = (latents - target).detach()
    torch.testing.assert_close(gradient, error / (error.square() + 0.01).sqrt() / error.numel())
    assert not pseudo_huber(latents.detach(), target).requires_grad
