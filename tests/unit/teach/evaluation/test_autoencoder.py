from pathlib import Path

import numpy as np
import pytest

from edgekd.diffusion.validate import inspect_folder
from edgekd.teach.evaluation.autoencoder import Autoencoder, detail, measure_autoencoder, quality


@pytest.fixture(scope="module")
def autoencoder(tiny_teacher, cache) -> Autoencoder:
    return Autoencoder(tiny_teacher, inspect_folder(tiny_teacher).key, cache)


def test_psnr_of_a_known_error():
    images = np.full((2, 32, 32, 3), 100, np.uint8)
    other = images.copy()
    other[1] += 10
    ratio, similarity = quality(images, other)
    assert ratio[0] > 100
    # 20 log10(255 / 10)
    assert ratio[1] == pytest.approx(28.13, abs=0.01)
    assert similarity[0] == pytest.approx(1)


def test_lines_have_more_detail_than_areas():
    images = np.full((3, 32, 32, 3), 255, np.uint8)
    images[1, 8:24, 8:24] = 0
    images[2, ::4] = 0
    plain, area, lines = detail(images)
    assert plain == 0
    assert lines > area > 0


def test_figures_of_a_random_autoencoder(corpus, recipe, autoencoder):
    figures, pairs = measure_autoencoder(corpus, recipe, autoencoder)
    new = figures.new_label
    assert 0 < new.psnr_p10_db <= new.psnr_db < 20
    assert new.ssim_p10 <= new.ssim < 0.9
    assert new.on_white.images == new.on_colors.images == new.images / 2
    parts = [new.on_white.psnr_db, new.on_colors.psnr_db]
    assert new.psnr_db == pytest.approx(sum(parts) / 2)
    worst = [row.psnr_db for row in new.worst]
    assert worst == sorted(worst)
    assert worst[0] <= new.psnr_p10_db + 0.01
    ratio, _ = quality(pairs["worst"].images, pairs["worst"].decoded)
    assert ratio.tolist() == pytest.approx(worst, abs=0.01)


def test_reconstructions_are_kept(autoencoder):
    images = np.full((2, 32, 32, 3), 7, np.uint8)
    first = autoencoder.reconstruct(images)
    again = Autoencoder(Path("gone"), autoencoder.key, autoencoder.cache)
    assert np.array_equal(again.reconstruct(images), first)
    assert first.shape == images.shape
