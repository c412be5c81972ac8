import numpy as np
import pytest
import torch

from edgekd.libraries import diffusers
from edgekd.runtime.conditions import guidance_conditions, size_conditions


@pytest.mark.parametrize("width", [4, 33, 256])
@pytest.mark.parametrize("scale", [1.0, 4.0, 8.5])
def test_guidance_is_embedded_as_in_diffusers(width, scale):
    embed = diffusers.StableDiffusionPipeline.get_guidance_scale_embedding
    expected = embed(None, torch.tensor([scale - 1.0] * 2), embedding_dim=width)
    found = guidance_conditions(scale, width, 2)["timestep_cond"]
    assert found.dtype == np.float32
    # Angles reach 7500, where float32 is 5e-4 apart: frequencies differ in their last bit.
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-3)


def test_sizes_are_height_before_width():
    np.testing.assert_array_equal(
        size_conditions(64, 96, 2)["time_ids"], [[64, 96, 0, 0, 64, 96]] * 2
    )
