import pytest

from edgekd.benchmark.random_pipeline import random_info
from edgekd.data.buckets import training_sizes
from edgekd.errors import InputError
from edgekd.jobs.plan import at_resolution
from edgekd.recipe import load_recipe
from edgekd.resources import find_yaml


def _data(*assignments):
    recipe = load_recipe(find_yaml("configs", "sd15-bk-tiny"), list(assignments))
    return at_resolution(recipe, random_info("sd15")).data


def test_buckets_are_sizes_that_the_teacher_can_halve():
    assert _data("data.resolution=512").bucket_step is None
    data = _data("data.resolution=512", "data.aspect_buckets=true")
    assert data.bucket_step == 64
    assert training_sizes(data)[:3] == [(512, 512), (576, 448), (448, 576)]


@pytest.mark.parametrize(("side", "step"), [(512, 32), (520, 40)])
def test_other_steps_are_refused(side, step):
    buckets = ("data.aspect_buckets=true", f"data.bucket_step={step}")
    with pytest.raises(InputError, match="must be a multiple of 64"):
        _data(f"data.resolution={side}", *buckets)
