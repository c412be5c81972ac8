"""Losses of a narrow VAE: least at the teacher, and with the right slope elsewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edgekd.distill.decoder_losses import (
    feature_distance,
    latent_distance,
    moment_distance,
    pixel_distance,
)
from edgekd.metrics.efficientnet import load_trunk


def features(pictures: Tensor, target: Tensor) -> Tensor:
    return feature_distance(load_trunk().to(pictures.dtype), pictures, target)


def moments(found: Tensor, target: Tensor) -> Tensor:
    return moment_distance(found, target).mean()


def latents(found: Tensor, target: Tensor) -> Tensor:
    return latent_distance(found, target).mean()


def pair(channels: int, side: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    return tuple(
        torch.rand(2, channels, side, side, generator=source, dtype=dtype) * 2 - 1 for _ in range(2)
    )


@pytest.mark.parametrize(
    ("loss", "channels", "side"),
    [(pixel_distance, 3, 8), (moments, 8, 4), (latents, 4, 4), (features, 3, 32)],
)
class TestLosses:
    def test_is_least_at_the_teacher(
        self, loss: Callable[..., Tensor], channels: int, side: int
    ) -> None:
        ours, target = pair(channels, side, torch.float32)
        assert float(loss(target, target)) == pytest.approx(0, abs=1e-6)
        near, far = loss(target + 0.1 * (ours - target), target), loss(ours, target)
        assert 0 < float(near) < float(far)

    def test_gradient_against_finite_differences(
        self, loss: Callable[..., Tensor], channels: int, side: int
    ) -> None:
        ours, target = pair(channels, side, torch.float64)
        ours.requires_grad_(True)
        target.requires_grad_(True)
        loss(ours, target).backward()
        assert target.grad is None
        direction = torch.randn(
            ours.shape, generator=torch.Generator().manual_seed(1), dtype=ours.dtype
        )
        step = 1e-7
        with torch.no_grad():
            slope = (
                loss(ours + step * direction, target) - loss(ours - step * direction, target)
            ) / (2 * step)
        expected = (ours.grad * direction).sum()
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-7)


def test_values():
    pictures, zero = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    assert float(pixel_distance(pictures, zero)) == 0.5
    one = torch.cat([torch.full((1, 4, 2, 2), 0.5), torch.full((1, 4, 2, 2), 2.0)], dim=1)
    both = torch.cat([one, 2 * one])
    assert moment_distance(both, torch.zeros_like(both)).tolist() == pytest.approx([0.7, 1.4])
