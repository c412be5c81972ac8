"""Both kinds of narrow VAE beside their teacher."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.distill.narrow_vae import NarrowVae, first_vae


@pytest.fixture
def narrow(bench):
    def make(kind: str) -> NarrowVae:
        section = bench.section(decoder={"kind": kind, "width": 0.125})
        means = bench.train.mean
        return first_vae(section, bench.teacher.vae, lambda count: means[:count])

    return make


def pictures() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_a_tiny_one_takes_and_gives_latents_as_the_u_net_does(narrow, bench):
    """diffusers' pipelines divide by its own scaling factor, which is 1."""
    tiny, latents = narrow("tiny"), bench.train.mean[:2]
    assert tiny.vae.config.scaling_factor == 1
    scale = bench.teacher.vae.config.scaling_factor
    assert scale == 0.5
    assert torch.equal(tiny.decode(latents), tiny.vae.decode(scale * latents).sample)
    assert tiny.encode(pictures()).shape == latents.shape
    mean = bench.teacher.vae.encode(pictures()).latent_dist.mean
    assert torch.equal(tiny.expected(bench.teacher.vae, pictures()), scale * mean)


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_what_it_encodes_is_compared_with_the_teachers(narrow, bench, kind):
    vae: Any = narrow(kind)
    decoded, found = vae(bench.train.mean[:2], pictures())
    assert decoded.shape == (2, 3, 32, 32)
    expected = vae.expected(bench.teacher.vae, pictures())
    assert vae.distance(expected, expected).tolist() == [0, 0]
    distance = vae.distance(found, expected)
    assert distance.shape == (2,)
    (decoded.mean() + distance.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())
    assert vae(bench.train.mean[:1], None)[1] is None
