"""Random latents are read as a cache is."""

import pytest
import torch

from edgekd.diffusion.load import load_teacher
from edgekd.distill.random_latents import RandomLatents


@pytest.mark.parametrize("name", ["tiny_teacher", "tiny_sdxl_teacher"])
def test_random_latents_are_a_caches(name, request):
    teacher = load_teacher(request.getfixturevalue(name))
    latents = RandomLatents(teacher, 5, seed=3, latent_size=6)
    assert len(latents) == 5
    rows = latents.batch(torch.tensor([4, 0]))
    assert rows.mean.shape == rows.logvar.shape == (2, 4, 6, 6)
    assert torch.equal(latents.text(torch.tensor([4]))[0], rows.encoder_hidden_states[:1])
    assert rows.encoder_hidden_states.shape[0] == 2
    text, pooled = latents.empty()
    assert text.shape[1:] == rows.encoder_hidden_states.shape[1:]
    assert not torch.equal(text[0], rows.encoder_hidden_states[0])
    if teacher.info.family == "sdxl":
        assert pooled is not None
        assert rows.pooled.shape[1:] == pooled.shape[1:]
        assert rows.time_ids.tolist() == [[24.0, 24.0, 0.0, 0.0, 24.0, 24.0]] * 2
    else:
        assert pooled is None
        assert rows.pooled is None


def test_the_seed_decides(tiny_teacher):
    teacher = load_teacher(tiny_teacher)
    first, again, other = (RandomLatents(teacher, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first.mean, again.mean)
    assert not torch.equal(first.mean, other.mean)
