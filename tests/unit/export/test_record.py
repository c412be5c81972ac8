from typing import Any

import numpy as np
import pytest
import torch

from edgekd.diffusion.load import load_pipeline
from edgekd.export.capture import capture
from edgekd.export.outline import component_names
from edgekd.export.protocol import Generation
from edgekd.export.record import Session, draw, record_denoising_inputs
from edgekd.export.trajectory import record_for_parity

PROMPTS = ("red apple", "a cat")


def session(steps: int, guidance_scale: float = 4.0, seed: int = 0) -> Session:
    return Session(prompts=PROMPTS, steps=steps, guidance_scale=guidance_scale, seed=seed)


@pytest.fixture(scope="module", params=["tiny_teacher", "tiny_sdxl_teacher"])
def pipeline(request) -> Any:
    return load_pipeline(request.getfixturevalue(request.param))


def test_every_call_is_recorded_and_the_drawing_is_untouched(pipeline):
    expected = draw(pipeline, session(3, seed=5))
    trajectory = record_denoising_inputs(pipeline, session(3, seed=5))
    np.testing.assert_array_equal(trajectory.images, expected)
    assert set(trajectory.recordings) == set(component_names(pipeline))
    unet = trajectory.recordings["unet"]
    assert len(unet) == 3 * len(PROMPTS)
    times = [call.timestep for call in unet[:3]]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 3
    # Guidance doubles the batch: the empty prompt first.
    assert unet[0].inputs["sample"].shape == (2, 4, 8, 8)
    assert len(trajectory.recordings["vae_encoder"]) == len(PROMPTS)
    assert len(trajectory.recordings["vae_decoder"]) == len(PROMPTS)
    # The first latents are the prompt's own noise.
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(6))
    np.testing.assert_allclose(unet[3].inputs["sample"][:1], noise.numpy(), atol=1e-6)


def test_nothing_stays_on_the_pipeline(pipeline):
    trajectory = record_denoising_inputs(pipeline, session(2, guidance_scale=1.0))
    before = {name: len(calls) for name, calls in trajectory.recordings.items()}
    draw(pipeline, session(2, guidance_scale=1.0))
    assert {name: len(calls) for name, calls in trajectory.recordings.items()} == before
    assert "decode" not in vars(pipeline.vae)
    assert not pipeline.unet._forward_hooks


def test_captures_give_the_recorded_outputs(pipeline):
    """The wrapped part is the pipeline's own part: same names, same values."""
    trajectory = record_denoising_inputs(pipeline, session(2))
    for name, calls in trajectory.recordings.items():
        captured = capture(pipeline, name)
        assert list(captured.example_inputs) == list(calls[0].inputs)
        assert captured.outputs == tuple(calls[0].outputs)
        for call in calls:
            with torch.inference_mode():
                arrays = [torch.from_numpy(value) for value in call.inputs.values()]
                results = captured.module(*arrays)
            for output, result in zip(captured.outputs, results, strict=True):
                np.testing.assert_array_equal(result.numpy(), call.outputs[output])


def test_part_that_fails_leaves_no_hooks(tiny_teacher):
    pipeline = load_pipeline(tiny_teacher)
    with pytest.raises(ValueError, match="prompt"):
        record_denoising_inputs(pipeline, session(2).model_copy(update={"prompts": (3,)}))
    assert not pipeline.unet._forward_hooks
    assert "decode" not in vars(pipeline.vae)


def test_other_size_and_batch_are_recorded_beside_the_pipelines_own(pipeline):
    trajectory = record_for_parity(pipeline, list(PROMPTS), Generation(3, 4.0), other_shapes=True)
    other = trajectory.other
    assert other.session.size is not None
    height, width = other.session.size
    assert (height, width) != (32, 32)
    assert other.images.shape == (3, height, width, 3)
    assert other.recordings["unet"][0].inputs["sample"].shape == (3, 4, height // 4, width // 4)
    np.testing.assert_array_equal(other.images[1], draw(pipeline, other.session)[1])
    calls = trajectory.calls("unet")
    assert len(calls) == len(trajectory.recordings["unet"]) + len(other.recordings["unet"])


@pytest.mark.parametrize(
    "class_name", ["StableDiffusionPipeline", "LatentConsistencyModelPipeline"]
)
def test_guidance_that_the_unet_takes_is_recorded(class_name, tiny_teacher):
    """Luo et al. 2023: the U-Net is conditioned on w = guidance_scale - 1, in one pass."""
    from edgekd.libraries import diffusers

    parts = dict(load_pipeline(tiny_teacher).components)
    parts["scheduler"] = diffusers.LCMScheduler()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts["unet"] = diffusers.UNet2DConditionModel.from_config(
            {**parts["unet"].config, "time_cond_proj_dim": 16}
        )
    lcm = getattr(diffusers, class_name)(**parts, requires_safety_checker=False)
    lcm.set_progress_bar_config(disable=True)
    calls = record_denoising_inputs(lcm, session(2, guidance_scale=8.0)).recordings["unet"]
    expected = lcm.get_guidance_scale_embedding(torch.tensor([7.0]), embedding_dim=16)
    for call in calls:
        assert list(call.inputs) == list(capture(lcm, "unet").example_inputs)
        np.testing.assert_array_equal(call.inputs["timestep_cond"], expected.numpy())
        assert call.inputs["sample"].shape[0] == 1
