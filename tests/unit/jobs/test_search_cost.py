"""What a finalist costs: all of it measured."""

from typing import Any

import pytest
from fixtures.graph_costs import LawfulDevice, random_candidates, starter_configs

from edgekd.jobs.search_cost import CostMeter, PictureCosts
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
