"""Least-squares first weights of a narrow VAE."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.libraries import diffusers
from edgekd.student import decoder_build
from edgekd.student.decoder import narrow_vae_config
from edgekd.student.decoder_build import build_narrow_vae, least_squares
from edgekd.training.images import psnr_db


@pytest.fixture(params=[(1, False), (2, True)], ids=["one layer", "two layers and attention"])
def teacher(request) -> Any:
    layers, attends = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=layers,
            mid_block_add_attention=attends,
        ).eval()


def latents(count: int = 16) -> Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_at_full_width_it_is_the_teacher():
    """But for the ridge: 60 dB below the signal, as 1e-4 of the variance was added."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = diffusers.AutoencoderKL(
            block_out_channels=(8,), norm_num_groups=4, mid_block_add_attention=False
        ).eval()
    narrow = build_narrow_vae(teacher, narrow_vae_config(teacher.config, 1.0), latents())
    new = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    pictures = teacher.decode(new).sample
    assert _snr_db(pictures, narrow.decode(new).sample) > 50
    moments = [vae.encode(pictures).latent_dist.parameters for vae in (teacher, narrow)]
    assert _snr_db(*moments) > 50


def _snr_db(reference: Tensor, output: Tensor) -> float:
    noise = (output - reference).square().mean()
    return float(10 * torch.log10(reference.var() / noise))


@torch.no_grad()
def test_a_narrow_one_is_far_nearer_than_random_weights(teacher):
    config = narrow_vae_config(teacher.config, 0.5, 1)
    before = torch.get_rng_state()
    narrow = build_narrow_vae(teacher, config, latents())
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        random = diffusers.AutoencoderKL.from_config(config).eval()
    new = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    pictures = teacher.decode(new).sample
    fitted, drawn = (psnr_db(v.decode(new).sample, pictures).mean() for v in (narrow, random))
    # A random teacher has nothing to spare: half of its channels carry half of it.
    assert fitted > drawn + 3
    moments, ours = (v.encode(pictures).latent_dist.parameters for v in (teacher, narrow))
    assert _snr_db(moments, ours) > 3


def test_it_is_a_stock_vae_that_trains(teacher, tmp_path):
    narrow = build_narrow_vae(teacher, narrow_vae_config(teacher.config, 0.5), latents(4))
    assert all(p.requires_grad and p.isfinite().all() for p in narrow.parameters())
    assert not narrow.training
    narrow.save_pretrained(tmp_path)
    loaded, info = diffusers.AutoencoderKL.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    state = loaded.state_dict()
    assert all(torch.equal(state[k], v) for k, v in narrow.state_dict().items())


def test_the_same_inputs_give_the_same_weights(teacher):
    config = narrow_vae_config(teacher.config, 0.5)
    one, two = (build_narrow_vae(teacher, config, latents(4)).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_least_squares_against_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 1, (50, 4)), rng.normal(-1, 3, (50, 3))
    weight, bias = least_squares(torch.from_numpy(x), torch.from_numpy(y), ridge=0)
    expected, *_ = np.linalg.lstsq(np.c_[x, np.ones(50)], y, rcond=None)
    np.testing.assert_allclose(torch.cat([weight.T, bias[None]]).numpy(), expected, atol=1e-10)


def test_ridge_keeps_inputs_that_do_not_vary_out():
    x = torch.cat([torch.randn(30, 2), torch.full((30, 1), 3.0)], dim=1)
    weight, bias = least_squares(x, x[:, :1] * 2 + 1)
    assert weight[0, 2] == 0
    torch.testing.assert_close(weight[0, 0], torch.tensor(2.0), atol=1e-3, rtol=0)
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0)])
def test_patches_are_what_the_convolution_sees(monkeypatch, stride, padding):
    monkeypatch.setattr(decoder_build, "POSITIONS", 7)
    conv = nn.Conv2d(3, 5, 3, stride, padding)
    x = torch.randn(2, 3, 9, 7)
    rows = decoder_build._rows(x, conv)
    assert [len(place) for place in rows] == [7, 7, 7]
    with torch.no_grad():
        found = decoder_build._patches(x, conv, rows) @ conv.weight.flatten(1).T + conv.bias
        torch.testing.assert_close(found, decoder_build._values(conv(x), rows))
