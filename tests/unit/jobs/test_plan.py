import pytest

from edgekd.benchmark.random_pipeline import random_info
from edgekd.errors import InputError
from edgekd.jobs.plan import at_resolution
from edgekd.recipe import load_recipe
from edgekd.resources import find_yaml


def test_buckets_are_sizes_that_the_teacher_can_halve():
    def step(side, *assignments):
        changes = [f"data.resolution={side}", *assignments]
        recipe = load_recipe(find_yaml("configs", "sd15-bk-tiny"), changes)
        return at_resolution(recipe, random_info("sd15")).data.bucket_step

    buckets = "data.aspect_buckets=true"
    assert step(512) is None
    assert step(512, buckets) == 64
    for side, other in ((512, 32), (520, 40)):
        with pytest.raises(InputError, match="must be a multiple of 64"):
            step(side, buckets, f"data.bucket_step={other}")
