from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.benchmark.generate import draw, initial_latents, noise_seed, set_scheduler
from edgekd.benchmark.subjects import Subject, open_pipeline
from edgekd.benchmark.suite import GenerationSection
from edgekd.errors import GateError

GENERATION = GenerationSection(steps=2, guidance_scale=3.0)


@pytest.fixture(scope="module")
def pipeline(tiny_teacher: Path) -> Any:
    opened = open_pipeline(Subject("t", "teacher", "torch", "fp32", tiny_teacher), threads=1)
    set_scheduler(opened, "DDIMScheduler")
    return opened


def test_noise_belongs_to_the_prompt_not_to_the_batch() -> None:
    together = initial_latents([0, 1, 2, 3], 5, channels=4, size=(8, 8))
    apart = torch.cat([initial_latents([i], 5, channels=4, size=(8, 8)) for i in range(4)])
    assert torch.equal(together, apart)


def test_noise_differs_between_prompts_and_between_seeds() -> None:
    seeds = {noise_seed(seed, index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_noise_is_standard_normal_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    latents = initial_latents(range(64), 0, channels=4, size=(16, 16))
    assert torch.equal(before, torch.random.get_rng_state())
    # 65,536 values: the standard error of mean and deviation is below 0.004.
    assert abs(latents.mean().item()) < 0.02
    assert latents.std().item() == pytest.approx(1, abs=0.02)


def test_pictures_do_not_depend_on_the_batch(pipeline: Any) -> None:
    captions = ["red apple", "crab", "sun"]
    together = draw(pipeline, captions, [4, 5, 6], GENERATION, 32, seed=0)
    alone = draw(pipeline, captions[1:2], [5], GENERATION, 32, seed=0)
    assert together.shape == (3, 32, 32, 3)
    assert together.dtype == np.uint8
    # Batched kernels may sum in another order: at most one 8-bit level.
    assert np.abs(together[1].astype(int) - alone[0].astype(int)).max() <= 1


def test_pictures_are_reproducible_and_follow_their_seed(pipeline: Any) -> None:
    first = draw(pipeline, ["crab"], [0], GENERATION, 32, seed=0)
    assert np.array_equal(first, draw(pipeline, ["crab"], [0], GENERATION, 32, seed=0))
    assert not np.array_equal(first, draw(pipeline, ["crab"], [0], GENERATION, 32, seed=1))


class RecordingPipeline:
    """Returns constant pictures and keeps the latents it was given."""

    vae_scale_factor = 4

    def __init__(self, value: float = 0.5) -> None:
        self.unet = SimpleNamespace(config={"in_channels": 4})
        self.value = value
        self.latents: list[torch.Tensor] = []

    def __call__(self, **arguments: Any) -> Any:
        self.latents.append(arguments["latents"])
        count = len(arguments["prompt"])
        return SimpleNamespace(images=np.full((count, 8, 8, 3), self.value))


def test_every_subject_gets_the_same_noise() -> None:
    teacher, student = RecordingPipeline(), RecordingPipeline()
    for pipeline in (teacher, student):
        draw(pipeline, ["a", "b"], [2, 3], GENERATION, 8, seed=7)
    assert torch.equal(teacher.latents[0], student.latents[0])
    assert torch.equal(teacher.latents[0], initial_latents([2, 3], 7, 4, (2, 2)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_that_is_not_finite_fails_the_gate(value: float) -> None:
    with pytest.raises(GateError, match=r"NaN or infinity at \[9\]"):
        draw(RecordingPipeline(value), ["a"], [9], GENERATION, 8, seed=0)


def test_the_scheduler_keeps_the_pipelines_noise_schedule(pipeline: Any) -> None:
    betas = pipeline.scheduler.betas
    set_scheduler(pipeline, "DPMSolverMultistepScheduler")
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert torch.equal(pipeline.scheduler.betas, betas)
    set_scheduler(pipeline, "DDIMScheduler")


@pytest.mark.parametrize("made_by", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_latents_are_not_clipped_where_the_config_does_not_say(made_by: str) -> None:
    from edgekd.libraries import diffusers

    holder = SimpleNamespace(scheduler=getattr(diffusers, made_by)(beta_schedule="scaled_linear"))
    assert "clip_sample" not in holder.scheduler.config
    set_scheduler(holder, "DDIMScheduler")
    assert holder.scheduler.config.clip_sample is False
    holder.scheduler = diffusers.DDIMScheduler(clip_sample=True)
    set_scheduler(holder, "DDIMScheduler")
    assert holder.scheduler.config.clip_sample is True
