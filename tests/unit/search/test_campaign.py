import pytest
from fixtures.graph_costs import DECODERS, LawfulDevice, random_candidates, starter_configs

from edgekd.errors import InputError
from edgekd.progress import Silent
from edgekd.search.campaign import MeasureBudget, MeasureClock, _Campaign, measure_space


class SlowDevice(LawfulDevice):
    """A device whose measurements take time on a clock of its own."""

    seconds = 0.0

    def __call__(self, graphs):
        self.seconds += sum(4.0 if graph.kind == "unet" else 1.0 for graph in graphs)
        return super().__call__(graphs)


def measured_in(device, budget):
    configs = starter_configs()
    clock = MeasureClock(device, budget, lambda: device.seconds)
    campaign = _Campaign(random_candidates(configs, 100, 0), configs, clock, Silent())
    campaign.parts()
    campaign.blocks()
    return campaign.wholes()


def count(device, kind):
    return sum(graph.kind == kind for graph in device.asked)


def test_a_good_predictor_takes_what_was_asked_for():
    device = LawfulDevice()
    configs = starter_configs()
    candidates = random_candidates(configs, 100, 0)
    model = measure_space(iter(candidates), configs, device, MeasureBudget(60, wholes=16))
    assert not model.report.poor
    assert count(device, "unet") == model.report.held_out == 16
    assert count(device, "vae_decoder") == len(DECODERS)
    assert len(device.asked) == len({graph.key() for graph in device.asked}) <= 60


def test_the_whole_unets_hold_the_largest_and_the_smallest():
    device, configs = LawfulDevice(), starter_configs()
    candidates = random_candidates(configs, 100, 0)
    model = measure_space(candidates, configs, device, MeasureBudget(60, wholes=8))
    work = model.work
    sums = [work.row(candidate.arch)[0] for candidate in candidates]
    chosen = [work.row(arch)[0] for arch in model.measured.wholes]
    assert (min(chosen), max(chosen)) == (min(sums), max(sums))


def test_a_poor_predictor_takes_more_until_the_budget_is_spent():
    device, configs = LawfulDevice(random_wholes=True), starter_configs()
    candidates = random_candidates(configs, 100, 0)
    model = measure_space(candidates, configs, device, MeasureBudget(60, 8, measurements=50))
    assert model.report.poor
    assert len(device.asked) == 50
    assert count(device, "unet") > 8


@pytest.mark.parametrize("seconds", [20, 40, 90])
def test_the_time_is_kept_and_what_is_missing_is_said(seconds):
    device = SlowDevice()
    model = measured_in(device, MeasureBudget(seconds, wholes=40))
    assert 0.7 * seconds < device.seconds <= seconds
    assert count(device, "unet") >= 1
    assert any("U-Nets were not measured" in line for line in model.report.warnings)
    # What blocks there was no time for are told from the others.
    for candidate in random_candidates(starter_configs(), 20, 5):
        assert model.predict(candidate).latency_ms > 0


def test_blocks_leave_time_for_whole_unets():
    device = SlowDevice()
    model = measured_in(device, MeasureBudget(30, wholes=10))
    assert count(device, "unet") >= 3
    assert any("blocks were not measured" in line for line in model.report.warnings)


def test_a_budget_without_time_has_what_a_model_cannot_do_without():
    device = SlowDevice()
    model = measured_in(device, MeasureBudget(0))
    kinds = [graph.block.kind for graph in device.asked if graph.block is not None]
    assert len(kinds) == len(set(kinds)) == 6
    assert len(device.asked) == 2 + len(kinds)  # a text encoder and a decoder
    assert model.report.form == "scale"
    assert len(model.report.warnings) >= 3  # decoders, blocks, U-Nets


def test_students_of_other_layers_are_one_unet():
    """Which of the teacher's layers it takes is not in its time: what was measured stays unseen."""
    device, configs = LawfulDevice(), starter_configs()
    candidates = random_candidates(configs, 100, 0)
    both = [one for candidate in candidates for one in (candidate, other_layers(candidate))]
    model = measure_space(both, configs, device, MeasureBudget(60, wholes=20))
    unets = [graph.key() for graph in device.asked if graph.kind == "unet"]
    assert len(set(unets)) == len(unets) == len(model.measured.wholes) >= 20


def other_layers(candidate):
    first, *rest = candidate.arch.stages
    if first.down == (0,):
        first = first.model_copy(update={"down": (1,)})
    arch = candidate.arch.model_copy(update={"stages": (first, *rest)})
    return candidate.model_copy(update={"arch": arch})


class BatchDevice(SlowDevice):
    """Keeps how many graphs of which kinds came at once."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def __call__(self, graphs):
        self.batches.append([graph.kind for graph in graphs])
        return super().__call__(graphs)


def test_graphs_go_in_batches_within_the_same_budget():
    device = BatchDevice()
    model = measured_in(device, MeasureBudget(60, wholes=10, together=4))
    assert max(map(len, device.batches)) == 4
    assert all(len(set(kinds)) == 1 for kinds in device.batches)
    assert sum(len(kinds) == 4 for kinds in device.batches) > len(device.batches) / 2
    assert device.seconds <= 60
    one_by_one = BatchDevice()
    same = measured_in(one_by_one, MeasureBudget(60, wholes=10))
    assert {len(kinds) for kinds in one_by_one.batches} == {1}
    # What is measured does not hang on how it was shipped.
    assert list(model.measured.blocks) == list(same.measured.blocks)


def test_an_empty_space_is_refused():
    with pytest.raises(InputError, match="must have candidates"):
        measure_space([], starter_configs(), LawfulDevice(), MeasureBudget(60))
