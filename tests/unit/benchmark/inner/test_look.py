"""U-Nets of each family, looked into in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.benchmark.inner.look import look, make_inputs
from edgekd.benchmark.inner.question import (
    Held,
    Inputs,
    Question,
    all_points,
    block_points,
    pair_up,
    unet_shape,
)
from edgekd.diffusion.load import load_pipeline
from edgekd.errors import InputError

CAPTIONS = ("a red cat", "two green hats", "the sun")


def held(path: Path, batch_size: int = 2) -> Held:
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    return Held(path, images, CAPTIONS, (5, 6, 7), 2, batch_size, attended=2)


def question(path: Path, guidance_scale: float = 4.0) -> Question:
    shape = unet_shape(path)
    pairing = pair_up(shape, shape, side=8)
    assert pairing.attention is not None
    return Question(path, guidance_scale, all_points(shape), pairing.attention[:1])


@pytest.fixture(scope="module")
def inputs(shallow_teacher) -> Inputs:
    return make_inputs(held(shallow_teacher))


def test_inputs_are_noisy_latents_of_the_teachers_own_schedule(inputs, shallow_teacher):
    pipeline = load_pipeline(shallow_teacher)
    assert inputs.noisy.shape == (2, 3, 4, 8, 8)
    assert (inputs.timesteps, inputs.side, inputs.passes) == ((250, 750), 32, 6)
    pixels = torch.from_numpy(held(shallow_teacher).images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        clean = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    noise = torch.stack(
        [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6, 7)]
    )
    for index, timestep in enumerate(inputs.timesteps):
        expected = pipeline.scheduler.add_noise(clean, noise, torch.full((3,), timestep))
        np.testing.assert_allclose(inputs.noisy[index], expected, atol=1e-5)


def test_features_are_means_over_positions_of_what_diffusers_computes(inputs, shallow_teacher):
    seen = look(question(shallow_teacher), inputs)
    pipeline, kept = load_pipeline(shallow_teacher), []
    pipeline.unet.mid_block.register_forward_hook(lambda *call: kept.append(call[2]))
    text, _ = pipeline.encode_prompt(list(CAPTIONS), "cpu", 1, do_classifier_free_guidance=False)
    with torch.no_grad():
        pipeline.unet(torch.from_numpy(inputs.noisy[1]), 750, text)
    found = seen.features["mid_block"]
    assert found.shape == (2, 3, 64)
    np.testing.assert_allclose(found[1], kept[0].mean(dim=(2, 3)), atol=1e-5)
    assert {(one.caption, one.word) for one in seen.maps} == {
        ("a red cat", "red"),
        ("a red cat", "cat"),
        ("two green hats", "two"),
        ("two green hats", "green"),
        ("two green hats", "hats"),
    }
    assert all(one.map.shape == (8, 8) and one.map.max() == 1 for one in seen.maps)


def test_the_cut_into_batches_changes_nothing(inputs, shallow_teacher):
    asked = question(shallow_teacher)
    whole, single = (look(asked, replace(inputs, batch_size=size)) for size in (3, 1))
    for point, found in whole.features.items():
        np.testing.assert_allclose(found, single.features[point], atol=1e-5)
    assert [one.word for one in whole.maps] == [one.word for one in single.maps]


def test_a_u_net_that_is_told_the_guidance_scale_hears_the_rows_own(inputs, tiny_lcm_student):
    low, high = (look(question(tiny_lcm_student, scale), inputs) for scale in (1.0, 8.0))
    assert set(low.features) == set(all_points(unet_shape(tiny_lcm_student)))
    assert not np.allclose(low.features["mid_block"], high.features["mid_block"])


def test_sdxl_has_its_added_conditions(shallow_sdxl_teacher):
    inputs = make_inputs(held(shallow_sdxl_teacher))
    seen = look(question(shallow_sdxl_teacher), inputs)
    assert set(block_points(unet_shape(shallow_sdxl_teacher))) <= set(seen.features)
    assert len(seen.maps) == 5


def test_latents_of_another_kind_are_refused(inputs, shallow_teacher):
    wide = replace(inputs, noisy=np.zeros((2, 3, 16, 8, 8), np.float32))
    with pytest.raises(InputError, match="latents of 16 channels"):
        look(question(shallow_teacher), wide)
