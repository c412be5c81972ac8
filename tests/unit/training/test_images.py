"""Distances of images."""

import math

import pytest
import torch

from edgekd.training.images import perceptual_distance, psnr_db


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
