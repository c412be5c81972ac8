"""The autoencoder stage: its measures and the folded normalisation."""

import numpy as np
import pytest
import torch

from edgekd.teach.recipe import TrainSection, VaeSection
from edgekd.teach.vae import (
    build_vae,
    kl_divergence,
    normalise_latents,
    ssim,
)


def tiny_vae(seed=0):
    train = TrainSection(phases=[{"steps": 1, "batch_size": 1}], learning_rate=1e-3)
    return build_vae(
        VaeSection(block_out_channels=[8, 16], norm_num_groups=4, train=train), 16, seed
    ).eval()


def test_kl_against_torch():
    mean, logvar = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    normal = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    standard = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normal, standard).mean()
    torch.testing.assert_close(kl_divergence(mean, logvar), expected)


def test_ssim_against_the_formula_in_float64():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1, 1, 14, 13))
    y = np.clip(x + rng.normal(0, 0.3, x.shape), -1, 1)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line)
    window /= window.sum()
    values = []
    for i in range(4):
        for j in range(3):
            a, b = x[0, 0, i : i + 11, j : j + 11], y[0, 0, i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = 0.02**2, 0.06**2
            values.append(
                (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    found = ssim(torch.from_numpy(x), torch.from_numpy(y))
    assert float(found) == pytest.approx(np.mean(values), abs=1e-9)
    assert float(ssim(torch.from_numpy(x), torch.from_numpy(x))) == pytest.approx(1.0)


@torch.no_grad()
def test_normalisation_changes_latents_but_not_the_autoencoder():
    vae = tiny_vae()
    images = torch.rand(6, 3, 16, 16) * 2 - 1
    before = vae.encode(images).latent_dist
    decoded = vae.decode(before.mean).sample
    mean, std = before.mean.mean(dim=(0, 2, 3)), before.mean.std(dim=(0, 2, 3))
    normalise_latents(vae, mean, std)
    after = vae.encode(images).latent_dist
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        after.std, before.std / std[None, :, None, None], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(vae.decode(after.mean).sample, decoded, atol=1e-5, rtol=1e-4)


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = tiny_vae(), tiny_vae(), tiny_vae(seed=1)
    assert torch.rand(1) == expected
    weight = "decoder.conv_in.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
