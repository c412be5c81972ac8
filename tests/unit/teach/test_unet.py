"""The U-Net stage: schedule, weights, timesteps, first weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.libraries import diffusers
from edgekd.resources import STARTER, find_yaml
from edgekd.teach.loop import step_at
from edgekd.teach.ranks import Ranks
from edgekd.teach.recipe import load_teach_recipe
from edgekd.teach.unet import _draw_noise, build_unet

TINY = Path(__file__).parents[2] / "tiny-teacher.yaml"


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_share_the_noise_of_one_process(count):
    recipe = load_teach_recipe(TINY)
    section = recipe.unet

    def draw(ranks):
        return _draw_noise(section, 0, step_at(3, section.train, ranks), (4, 2, 2))

    noise, timesteps = draw(Ranks())
    parts = [draw(Ranks(rank, count)) for rank in range(count)]
    assert torch.equal(torch.cat([n for n, _ in parts]), noise)
    assert torch.equal(torch.cat([t for _, t in parts]), timesteps)
    assert noise.shape == (4, 4, 2, 2)


def test_unet_starts_by_predicting_nothing_but_can_learn():
    unet = build_unet(load_teach_recipe(TINY))
    hidden = torch.randn(2, 5, 16)
    out = unet(torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), hidden).sample
    assert (out == 0).all()
    (out - 1).square().mean().backward()
    assert unet.conv_out.weight.grad.abs().sum() > 0


def test_shipped_recipe_builds_the_teacher_that_is_asked_for():
    recipe = load_teach_recipe(find_yaml("configs", "starter-teacher"))
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(build_unet(recipe).config)
    known = diffusers.UNet2DConditionModel.load_config(STARTER / "teacher" / "unet")
    for name in ("down_block_types", "up_block_types", "block_out_channels", "sample_size"):
        assert list(np.atleast_1d(unet.config[name])) == list(np.atleast_1d(known[name]))
    assert 12e6 < sum(p.numel() for p in unet.parameters()) < 14e6
