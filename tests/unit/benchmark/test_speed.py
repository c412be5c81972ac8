from pathlib import Path
from typing import Any

import pytest

from edgekd.benchmark.speed import component_calls, measure_speed, record_calls
from edgekd.benchmark.subjects import Subject, open_pipeline
from edgekd.benchmark.suite import GenerationSection, SpeedSection

GENERATION = GenerationSection(steps=2, guidance_scale=3.0)


@pytest.fixture(scope="module")
def pipeline(tiny_sdxl_teacher: Path) -> Any:
    return open_pipeline(Subject("t", "teacher", "torch", "fp32", tiny_sdxl_teacher), threads=1)


def test_components_are_replayed_with_the_inputs_of_a_real_drawing(pipeline: Any) -> None:
    calls = component_calls(pipeline, "red apple", GENERATION, 32)
    assert set(calls) == {"text_encoder", "text_encoder_2", "unet", "unet_guided", "vae_decoder"}
    assert calls["unet"]()[0].shape[0] == 1
    assert calls["unet_guided"]()[0].shape[0] == 2
    assert calls["vae_decoder"]()[0].shape[1:] == (3, 32, 32)


def test_without_guidance_there_is_no_guided_step(pipeline: Any) -> None:
    plain = GENERATION.model_copy(update={"guidance_scale": 1.0})
    assert "unet_guided" not in component_calls(pipeline, "red apple", plain, 32)


def test_recording_leaves_no_trace(pipeline: Any) -> None:
    with record_calls(pipeline):
        assert "forward" in vars(pipeline.unet)
    assert "forward" not in vars(pipeline.unet)
    assert "decode" not in vars(pipeline.vae)


def test_all_subjects_have_all_samples(pipeline: Any) -> None:
    speed = SpeedSection(threads=1, warmup=1, component_runs=2, image_runs=3)
    found = measure_speed({"a": pipeline, "b": pipeline}, "crab", GENERATION, speed, 32)
    for parts in found["subjects"].values():
        assert len(parts["image"]["samples_ms"]) == 3
        assert len(parts["image"]["warmup_ms"]) == 1
        assert len(parts["unet"]["samples_ms"]) == 2
        assert len(parts["unet_guided"]["samples_ms"]) == 2
