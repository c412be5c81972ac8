"""The U-Net stage: schedule, weights, timesteps, first weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.resources import STARTER, find_yaml
from edgekd.teacher.recipe import load_teach_recipe
from edgekd.teacher.teach_data import generator
from edgekd.teacher.teach_loop import step_at
from edgekd.teacher.teach_ranks import Ranks
from edgekd.teacher.teach_unet import (
    _draw_noise,
    build_scheduler,
    build_unet,
    compiled,
    draw_timesteps,
    min_snr_weights,
)

TINY = Path(__file__).parents[2] / "tiny-teacher.yaml"


def test_scheduler_is_the_starters():
    first = diffusers.DDIMScheduler.from_pretrained(STARTER / "teacher" / "scheduler")
    ours = {k: v for k, v in build_scheduler().config.items() if not k.startswith("_")}
    assert ours == {k: v for k, v in first.config.items() if not k.startswith("_")}


def test_min_snr_weights():
    alphas = build_scheduler().alphas_cumprod
    timesteps = torch.arange(1000)
    weights = min_snr_weights(alphas, timesteps, 5.0)
    snr = alphas / (1 - alphas)
    # Noise prediction with weight w is image prediction with weight w * SNR (Hang et al., eq. 9).
    torch.testing.assert_close(weights * snr, snr.clamp(max=5.0))
    assert (min_snr_weights(alphas, timesteps, None) == 1).all()


def test_timesteps_are_stratified():
    section = load_teach_recipe(TINY).unet
    for number in range(5):
        drawn = draw_timesteps(10, section, generator(0, "t", number))
        assert sorted(drawn // 100) == list(range(10))


def test_timesteps_follow_the_logit_normal():
    overrides = ["unet.timestep_sampling=logit_normal", "unet.logit_mean=0.4", "unet.logit_std=1.5"]
    section = load_teach_recipe(TINY, overrides).unet
    drawn = np.concatenate([draw_timesteps(16, section, generator(0, "t", n)) for n in range(500)])
    logits = np.log((drawn + 0.5) / (1000 - drawn - 0.5))
    assert stats.kstest(logits, stats.norm(0.4, 1.5).cdf).statistic < 0.02
    assert drawn.min() >= 0
    assert drawn.max() <= 999


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


def _small_net() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))


def test_compiled_net_trains_the_same_weights():
    net, inputs = _small_net(), torch.linspace(-1, 1, 8).reshape(2, 4)
    net(inputs).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    compiled(net)(inputs).square().sum().backward()
    torch.testing.assert_close([parameter.grad for parameter in net.parameters()], expected)


def test_compiling_without_a_compiler_is_refused(monkeypatch, tmp_path):
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled before
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    with pytest.raises(InputError, match=r"`unet\.compile` needs a compiler that torch can use"):
        compiled(_small_net())(torch.zeros(2, 4))
