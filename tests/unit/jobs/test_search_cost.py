"""What a finalist costs: all of it measured."""

from typing import Any

import pytest
from fixtures.graph_costs import LawfulDevice, random_candidates, starter_configs

from edgekd.jobs.search_cost import CostMeter, PictureCosts
from edgekd.jobs.search_shapes import configs_of, extra_calls
from edgekd.search.campaign import MeasureBudget, measure_space


def test_a_finalists_decoder_is_measured_if_it_was_not_yet():
    configs, device = starter_configs(), LawfulDevice(noise=0)
    sample = [
        one.model_copy(update={"decoder_width": 1.0}) for one in random_candidates(configs, 20, 0)
    ]
    model = measure_space(sample, configs, device, MeasureBudget(60, wholes=4))
    costs = PictureCosts({"fp32": model})
    place: Any = None
    meter = CostMeter(place, {"fp32": device})
    own = sample[0].model_copy(update={"steps": 4})
    narrow = own.model_copy(update={"decoder_width": 0.5})
    seen = len(device.asked)
    found = {one.decoder_width: meter.whole(costs, one) for one in (own, narrow)}
    assert [one.kind for one in device.asked[seen:]] == ["unet", "unet", "vae_decoder"]
    for width, cost in found.items():
        unet, decoder = configs.unet_graph(own), configs.decoder_graph(width)
        latency = 1.5 + 4 * device.latency(unet) + device.latency(decoder)
        assert cost.latency_ms == pytest.approx(latency)
    # Files of decoders are all of one size there; to scale one by its work is no measurement.
    assert found[0.5].size_bytes == found[1.0].size_bytes
    assert costs.predict(narrow).size_bytes < costs.predict(own).size_bytes


@pytest.mark.parametrize(
    ("sampler", "extra"), [("ddim", 0), ("heun", 24), ("pndm", 9), ("unipc", 0)]
)
def test_a_samplers_own_calls_are_counted(planned, sampler, extra):
    """In 25 steps; PNDM with the four Runge-Kutta calls of three steps."""
    plan = planned(f"benchmark.sampler={sampler}", "student.preset=bk-sdm-small")
    assert plan.suite.generation.steps == 25
    assert extra_calls(plan) == extra
    # Few-step students have a sampler of one call a step.
    assert configs_of(plan, guided=False).extra_calls == 0
    plain = planned(
        f"benchmark.sampler={sampler}", "student.preset=bk-sdm-small", "distill.phases=[kd]"
    )
    assert configs_of(plain, guided=True).extra_calls == extra


def test_a_teachers_picture_has_all_calls_of_its_sampler():
    configs, device = starter_configs(), LawfulDevice(noise=0)
    place: Any = None
    meter = CostMeter(place, {"fp32": device})
    (full,) = random_candidates(configs, 1, 0)
    full = full.model_copy(update={"steps": 4, "precision": "fp32"})

    def latency(**changes: Any) -> float:
        return meter.teacher(configs.model_copy(update=changes), full, guided=True).latency_ms

    own = configs.model_copy(update={"guided": True})
    unet = device.latency(own.unet_graph(full))
    texts = sum(device.latency(one) for one in own.text_graphs())
    assert latency(extra_calls=3) - latency() == pytest.approx(3 * unet)
    assert latency() - latency(zero_negative=True) == pytest.approx(texts)
