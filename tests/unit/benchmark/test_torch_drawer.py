from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.benchmark.cases import Case
from edgekd.benchmark.drawer import DrawingBatch
from edgekd.benchmark.torch_drawer import TorchDrawer, record_calls, set_scheduler
from edgekd.diffusion import load
from edgekd.errors import GateError
from edgekd.libraries import diffusers
from edgekd.recipe import RowGeneration

GENERATION = RowGeneration("DDIMScheduler", 2, 3.0)
CASE = Case("t", "teacher", "torch", "fp32", Path(), generation=GENERATION)
BATCH = DrawingBatch(CASE, 1, ["red apple", "crab", "sun"], [4, 5, 6], 32, seed=0)


@pytest.fixture(scope="module")
def drawer(tiny_teacher) -> TorchDrawer:
    return TorchDrawer(replace(CASE, path=tiny_teacher), threads=1)


def test_pictures_do_not_depend_on_the_batch_nor_touch_the_global_generator(drawer):
    before = torch.random.get_rng_state()
    together = drawer.draw(BATCH)
    alone = drawer.draw(replace(BATCH, captions=["crab"], indices=[5]))
    assert torch.equal(before, torch.random.get_rng_state())
    assert together.shape == (3, 32, 32, 3)
    assert together.dtype == np.uint8
    # Batched kernels may sum in another order: at most one 8-bit level.
    assert np.abs(together[1].astype(int) - alone[0].astype(int)).max() <= 1


def test_large_pictures_are_decoded_one_by_one(drawer, monkeypatch):
    together = drawer.draw(BATCH)
    sizes: list[int] = []
    decode = drawer.pipeline.vae._decode

    def counted(latents, **options):
        sizes.append(len(latents))
        return decode(latents, **options)

    monkeypatch.setattr(drawer.pipeline.vae, "_decode", counted)
    monkeypatch.setattr(load, "_DECODED_TOGETHER", 16)
    apart = drawer.draw(BATCH)
    assert sizes == [1, 1, 1]
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1
    drawer.pipeline.vae.disable_slicing()


def test_pictures_are_reproducible_and_follow_their_seed(drawer):
    one = replace(BATCH, captions=["crab"], indices=[0])
    first = drawer.draw(one)
    assert np.array_equal(first, drawer.draw(one))
    assert not np.array_equal(first, drawer.draw(replace(one, seed=1)))


def test_noise_is_that_of_the_seed_whatever_the_pipeline(drawer):
    given: list[Any] = []

    def pipeline(**arguments):
        given.extend(torch.randn(8, generator=one) for one in arguments["generator"])
        return SimpleNamespace(images=np.zeros((3, 8, 8, 3)))

    other = TorchDrawer.__new__(TorchDrawer)
    other.pipeline = pipeline
    other.draw(BATCH)
    for seed, noise in zip(BATCH.seeds, given, strict=True):
        assert torch.equal(noise, torch.randn(8, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_that_is_not_finite_fails_the_gate(value):
    other = TorchDrawer.__new__(TorchDrawer)
    other.pipeline = lambda **_: SimpleNamespace(images=np.full((3, 8, 8, 3), value))
    with pytest.raises(GateError, match=r"NaN or infinity in \[0, 1, 2\]"):
        other.draw(BATCH)


def test_the_scheduler_keeps_the_pipelines_noise_schedule(drawer):
    holder = SimpleNamespace(scheduler=drawer.pipeline.scheduler)
    set_scheduler(holder, "EulerDiscreteScheduler")
    assert type(holder.scheduler).__name__ == "EulerDiscreteScheduler"
    assert torch.equal(holder.scheduler.betas, drawer.pipeline.scheduler.betas)


@pytest.mark.parametrize("made_by", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_latents_are_not_clipped_where_the_config_does_not_say(made_by):
    holder = SimpleNamespace(scheduler=getattr(diffusers, made_by)(beta_schedule="scaled_linear"))
    assert "clip_sample" not in holder.scheduler.config
    set_scheduler(holder, "DDIMScheduler")
    assert holder.scheduler.config.clip_sample is False
    holder.scheduler = diffusers.DDIMScheduler(clip_sample=True)
    set_scheduler(holder, "DDIMScheduler")
    assert holder.scheduler.config.clip_sample is True


def test_recording_leaves_no_trace(drawer):
    with record_calls(drawer.pipeline):
        assert "forward" in vars(drawer.pipeline.unet)
    assert "forward" not in vars(drawer.pipeline.unet)
    assert "decode" not in vars(drawer.pipeline.vae)
