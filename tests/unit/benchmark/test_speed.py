from dataclasses import replace

import pytest

from edgekd.benchmark.cases import Case
from edgekd.benchmark.draw import open_drawer
from edgekd.benchmark.drawer import Drawer, DrawingBatch
from edgekd.benchmark.speed import SpeedOrder, batch_calls, measure_speed
from edgekd.benchmark.suite import SpeedSection
from edgekd.measure.speed import component_calls
from edgekd.recipe import RowGeneration

GENERATION = RowGeneration("DDIMScheduler", 2, 3.0)


@pytest.fixture(scope="module")
def case(tiny_sdxl_teacher) -> Case:
    return Case("a", "teacher", "torch", "fp32", tiny_sdxl_teacher, generation=GENERATION)


@pytest.fixture(scope="module")
def drawer(case) -> Drawer:
    return open_drawer(case, threads=1)


@pytest.fixture
def batch(case) -> DrawingBatch:
    return DrawingBatch(case, 1, ["red apple"], [0], 32, seed=0)


def test_components_are_replayed_with_the_inputs_of_a_real_drawing(drawer, batch):
    calls = component_calls(batch_calls(drawer, batch), guided=True)
    assert set(calls) == {"text_encoder", "text_encoder_2", "unet", "unet_guided", "vae_decoder"}
    assert calls["unet"]()[0].shape[0] == 1
    assert calls["unet_guided"]()[0].shape[0] == 2
    assert calls["vae_decoder"]()[0].shape[1:] == (3, 32, 32)


def test_without_guidance_there_is_no_guided_step(drawer, batch):
    plain = batch.drawn_with(guidance_scale=1.0)
    calls = component_calls(batch_calls(drawer, plain), plain.generation.guided)
    assert "unet_guided" not in calls


def test_all_cases_have_all_samples_but_one_that_cannot_be_drawn(case):
    speed = SpeedSection(threads=1, warmup=1, component_runs=2, image_runs=3)
    broken = replace(case, name="broken", runtime="onnx")  # its folder is no export
    cases = [case, broken, replace(case, name="b")]
    found = measure_speed(SpeedOrder(cases, "crab", 32, speed))
    assert set(found.timings) == set(found.energy) == {"a", "b"}
    assert list(found.failures) == ["broken"]
    assert "manifest.json" in found.failures["broken"]
    for parts in found.timings.values():
        assert len(parts["image"].samples_ms) == 3
        assert len(parts["image"].warmup_ms) == 1
        assert len(parts["unet"].samples_ms) == 2
        assert len(parts["unet_guided"].samples_ms) == 2
