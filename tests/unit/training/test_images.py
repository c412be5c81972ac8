"""Distances of images."""

import math

import pytest
import torch
import torch.nn.functional as F

from edgekd.training.images import laplacian_energy, perceptual_distance, psnr_db


def test_psnr_of_a_known_error():
    images = torch.zeros(2, 3, 8, 8)
    images[1] += 0.2
    values = psnr_db(images, torch.zeros(2, 3, 8, 8))
    # The range is 2, so an error of 0.2 is 20 dB down.
    assert values[1] == pytest.approx(20.0, abs=1e-4)
    assert math.isfinite(values[0])


def test_perceptual_distance_ignores_scale_and_sees_direction():
    maps = [torch.rand(2, 4, 3, 3), torch.rand(2, 8, 2, 2)]
    assert float(perceptual_distance(maps, [2 * m for m in maps])) == pytest.approx(0, abs=1e-6)
    opposite = perceptual_distance(maps, [-m for m in maps])
    # Opposite unit vectors are 2 apart: 4 for each of two levels.
    assert float(opposite) == pytest.approx(8.0, rel=1e-5)


def test_energy_of_the_laplacian():
    board = torch.tensor([1.0, -1.0]).repeat(4)
    images = torch.stack([board[:, None] * board, torch.arange(8.0).expand(8, 8)])
    images = images[:, None].expand(-1, 3, -1, -1)
    # Every pixel of a chessboard is 2 from each of its four neighbours; a ramp is not curved.
    assert laplacian_energy(images).tolist() == [64, 0]
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(noise, 3, stride=1)
    assert (laplacian_energy(blurred) < 0.2 * laplacian_energy(noise)).all()
