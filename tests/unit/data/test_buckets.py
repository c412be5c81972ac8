import math

import pytest

from edgekd.data.buckets import bucket_sizes, nearest_bucket, training_sizes
from edgekd.errors import InputError
from edgekd.recipe import DataSection

# Podell et al. 2023, appendix I: for each shorter side the size of largest area.
SDXL = [(1088, 960), (1152, 896), (1216, 832), (1344, 768), (1472, 704), (1600, 640)]


def test_sizes_are_sdxls():
    sizes = bucket_sizes(1024, 64, 2.5)
    assert sizes[0] == (1024, 1024)
    assert sizes[1::2] == SDXL
    assert sizes[2::2] == [(width, height) for height, width in SDXL]


@pytest.mark.parametrize(("side", "step"), [(512, 64), (64, 16), (768, 32)])
def test_areas_are_about_equal(side, step):
    for height, width in bucket_sizes(side, step, 3.0):
        assert height % step == width % step == 0
        assert side * side - step * min(height, width) < height * width <= side * side
        assert max(height, width) <= 3 * min(height, width)


def test_the_nearest_is_so_by_ratio():
    sizes = bucket_sizes(512, 64, 3.0)
    assert [nearest_bucket(size, sizes) for size in sizes] == list(range(len(sizes)))
    assert sizes[nearest_bucket((3000, 4000), sizes)] == (448, 576)
    assert sizes[nearest_bucket((1920, 1080), sizes)] == (640, 384)
    assert sizes[nearest_bucket((1, 1000), sizes)] == (320, 768)
    border = math.sqrt(576 / 448)
    assert nearest_bucket((100_000, int(100_000 / border) + 1), sizes) == 0
    assert nearest_bucket((100_000, int(100_000 / border) - 1), sizes) == 1


def test_a_recipe_without_buckets_is_square():
    assert training_sizes(DataSection(resolution=72)) == [(72, 72)]


@pytest.mark.parametrize("step", [None, 64])
def test_the_step_must_divide_the_side(step):
    section = DataSection(resolution=96, aspect_buckets=True, bucket_step=step)
    with pytest.raises(InputError, match=r"a multiple of `data\.bucket_step`"):
        training_sizes(section)
