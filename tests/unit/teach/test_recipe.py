"""The teacher's recipe: what it refuses, and the shipped one."""

from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.resources import find_yaml
from edgekd.teach.recipe import load_teach_recipe

TINY = Path(__file__).parents[2] / "tiny-teacher.yaml"


def test_shipped_recipe_is_valid():
    recipe = load_teach_recipe(find_yaml("configs", "starter-teacher"))
    assert recipe.vae.latent_channels == 4
    assert recipe.unet.block_out_channels == [64, 128, 192]


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("vae.kl=1", "unknown key `vae.kl`"),
        ("data.resolution=68", "multiple of 8"),
        ("unet.block_out_channels=[16, 20]", "norm_num_groups"),
        ("unet.heads=3", "multiple of `heads`"),
        ("text.heads=3", "multiple of `heads`"),
        ("processes=3", "must be a multiple of `processes`: 4 over 3"),
        ("data.captions={with_tags: 0.7, tags_only: 0.7}", "<= 1"),
        ("data.augment.backgrounds={blue: bluish}", "background `blue`"),
        ("data.augment.backgrounds={}", "white_fraction"),
        ("unet.train.phases=[]", "unet.train.phases"),
    ],
)
def test_refused(assignment, said):
    with pytest.raises(InputError, match=said):
        load_teach_recipe(TINY, [assignment])


def test_resolution_must_divide_through_vae_and_unet():
    three_stages = "vae.block_out_channels=[8, 8, 16]"
    load_teach_recipe(TINY, [three_stages, "data.resolution=24"])
    deeper = "unet.block_out_channels=[16, 16, 32]"
    with pytest.raises(InputError, match="must be a multiple of 16"):
        load_teach_recipe(TINY, [three_stages, deeper, "data.resolution=24"])
