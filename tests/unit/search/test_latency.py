from dataclasses import replace

import numpy as np
import pytest
from fixtures.graph_costs import LawfulDevice, random_candidates, starter_configs

from edgekd.errors import InputError
from edgekd.search.block_times import corner_blocks
from edgekd.search.latency import LatencyModel, MeasuredSpace, errors
from edgekd.search.unet_work import UNetWork


def measured(device, configs, wholes=24, **changes) -> MeasuredSpace:
    candidates = random_candidates(configs, max(wholes, 100), 0)
    work = UNetWork(configs, None)
    blocks = corner_blocks({b for c in candidates for b in work.blocks(c.arch)})
    values = {
        "blocks": {b: device([configs.block_graph(b)])[0] for b in blocks},
        "wholes": {c.arch: device([configs.unet_graph(c)])[0] for c in candidates[:wholes]},
        "decoders": {w: device([configs.decoder_graph(w)])[0] for w in (1.0, 0.5)},
        "texts": device(configs.text_graphs()),
    }
    return MeasuredSpace(configs, **{**values, **changes})


@pytest.fixture(scope="module")
def model():
    return LatencyModel.fit(measured(LawfulDevice(), starter_configs()))


def test_candidates_that_were_not_measured_are_told(model):
    """The figures that the search promises, at 2 % of noise in each measurement."""
    configs, device = starter_configs(), LawfulDevice(noise=0)
    fresh = random_candidates(configs, 60, 7)
    told = np.array([model.unet(c.arch).latency_ms for c in fresh])
    taken = np.array([device.latency(configs.unet_graph(c)) for c in fresh])
    found = errors(told, taken)
    assert found["within_10"] >= 0.95
    assert found["spearman"] >= 0.98


def test_the_report_is_of_what_was_not_fitted_on(model):
    report = model.report
    assert report.held_out == 24
    assert report.measurements == len(model.measured.all)
    assert report.outliers == report.measurements  # one each
    assert report.median_error < report.p90_error < 0.1
    assert report.within_10 >= 0.95
    assert report.spearman >= 0.98
    assert not report.poor


def test_a_picture_is_encoder_passes_and_decoder(model):
    (candidate,) = random_candidates(model.measured.configs, 1, 3)
    texts = model.measured.texts[0]
    decoder = model.measured.decoders[0.5]
    one, four = (
        model.predict(candidate.model_copy(update={"steps": steps, "decoder_width": 0.5}))
        for steps in (1, 4)
    )
    unet = model.unet(candidate.arch)
    assert four.latency_ms - one.latency_ms == pytest.approx(3 * unet.latency_ms)
    rest = one.latency_ms - unet.latency_ms
    assert rest == pytest.approx(texts.latency_ms + decoder.latency_ms)
    assert one.size_bytes == pytest.approx(
        unet.size_bytes + texts.file_bytes + decoder.file_bytes, abs=1
    )
    assert one.peak_bytes == four.peak_bytes


def test_sizes_and_memory_follow_the_parameters(model):
    configs, device = model.measured.configs, LawfulDevice()
    for candidate in random_candidates(configs, 5, 9):
        (taken,) = device([configs.unet_graph(candidate)])
        told = model.unet(candidate.arch)
        assert told.size_bytes == pytest.approx(taken.file_bytes, rel=1e-3)
        assert told.own_bytes == pytest.approx(taken.peak_bytes - taken.baseline_bytes, rel=1e-3)


def test_guidance_measures_both_halves_at_once():
    plain, guided = starter_configs(), starter_configs(guided=True)
    (candidate,) = random_candidates(plain, 1, 3)
    device = LawfulDevice(noise=0)
    models = [LatencyModel.fit(measured(device, configs, 8)) for configs in (plain, guided)]
    one, two = (model.unet(candidate.arch).latency_ms for model in models)
    assert two == pytest.approx(2 * one, rel=0.02)
    assert {g.batch for g in device.asked if g.kind in ("unet", "block")} == {1, 2}
    # Prompt and negative prompt are encoded one after the other.
    rest = [
        model.predict(candidate).latency_ms
        - candidate.steps * model.unet(candidate.arch).latency_ms
        for model in models
    ]
    assert rest[1] - rest[0] == pytest.approx(1.5)


def test_a_decoder_width_between_is_scaled_by_its_work(model):
    (candidate,) = random_candidates(model.measured.configs, 1, 3)
    times = [
        model.predict(candidate.model_copy(update={"decoder_width": width})).latency_ms
        for width in (0.5, 0.75, 1.0)
    ]
    assert times[0] < times[1] < times[2]


def test_a_random_device_is_warned_of():
    device = LawfulDevice(random_wholes=True)
    report = LatencyModel.fit(measured(device, starter_configs())).report
    assert report.poor
    assert any("within 10 %" in line for line in report.warnings)
    assert any("rank correlation" in line for line in report.warnings)


def test_few_whole_unets_are_warned_of():
    report = LatencyModel.fit(measured(LawfulDevice(), starter_configs(), wholes=3)).report
    assert (report.held_out, report.median_error, report.form) == (0, None, "scale")
    assert "known on 0 whole U-Nets" in report.warnings[0]


def test_without_whole_unets_the_sum_is_the_time():
    device = LawfulDevice(noise=0)
    configs = starter_configs()
    model = LatencyModel.fit(measured(device, configs, wholes=0))
    (candidate,) = random_candidates(configs, 1, 3)
    told, taken = (
        model.unet(candidate.arch).latency_ms,
        device.latency(configs.unet_graph(candidate)),
    )
    assert 0.5 < told / taken < 1


def test_without_whole_unets_a_weight_is_as_large_as_in_blocks():
    device, configs = LawfulDevice(noise=0), starter_configs()
    (candidate,) = random_candidates(configs, 1, 3)
    known = measured(device, configs, wholes=0)
    (taken,) = device([configs.unet_graph(candidate)])

    def told(share):
        blocks = {
            block: one.model_copy(update={"file_bytes": round(share * one.file_bytes)})
            for block, one in known.blocks.items()
        }
        return LatencyModel.fit(replace(known, blocks=blocks)).unet(candidate.arch).size_bytes

    assert told(1) == pytest.approx(taken.file_bytes, rel=0.05)
    assert told(0.25) == pytest.approx(taken.file_bytes / 4, rel=0.05)


@pytest.mark.parametrize("missing", ["decoders", "texts", "blocks"])
def test_parts_that_every_picture_needs_must_be_measured(missing):
    with pytest.raises(InputError, match="a decoder, the text encoders and blocks must be"):
        LatencyModel.fit(measured(LawfulDevice(), starter_configs(), 0, **{missing: {}}))
