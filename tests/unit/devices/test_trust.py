"""Checks of devices whose truth is known."""

import copy

import pytest
from fixtures.fake_agent import CHECK

from edgekd.devices.client import Tick
from edgekd.devices.results import CheckResult
from edgekd.devices.trust import ClockDrift, clock_drift, judge, slowdown, spread

S = 1_000_000_000
GOOD = ClockDrift(0.0, 0.001)


def tick(at, rate, way, shift=0.5):
    """A reading at a moment (s), over a way of so long, by a clock of this rate that began at 7."""
    return Tick(int(at * S), int((7 + rate * (at + shift * way)) * S), int((at + way) * S))


@pytest.mark.parametrize("rate", [1.0, 1.02, 0.98, 1.5])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_the_drift_is_found_within_the_error_that_is_told(rate, shift):
    first = [tick(0, rate, 0.4), tick(1, rate, 0.05, shift), tick(2, rate, 0.9)]
    last = [tick(10, rate, 0.3), tick(11, rate, 0.05, 1 - shift)]
    found = clock_drift(first, last)
    assert found.error == pytest.approx(0.005, rel=0.01)  # 50 ms over 10 s
    assert abs(found.drift - (rate - 1)) <= found.error * rate + 1e-9


def check(**changes):
    values = copy.deepcopy(CHECK)
    for name, value in changes.items():
        if name in ("sleep", "work"):
            values[name].update(value)
        else:
            values[name] = value
    return CheckResult.model_validate(values)


def test_a_quiet_device_is_trusted():
    found = judge(GOOD, check(), 20.0)
    assert found.trusted
    assert found.notes == ()
    assert found.work_ms == pytest.approx(20.1)


HALVES = {"samples_ms": [20.0] * 10 + [24.0] * 20, "cpu_ms": [20.0] * 10 + [24.0] * 20}


@pytest.mark.parametrize(
    ("clock", "changes", "said"),
    [
        (ClockDrift(0.05, 0.001), {}, "clock is 5.0% too fast"),
        (ClockDrift(-0.05, 0.001), {}, "clock is 5.0% too slow"),
        (ClockDrift(0.0, 0.2), {}, "cannot be told better than to 20.0%"),
        (GOOD, {"sleep": {"samples_ms": [10.0] * 3}}, "ends after 10.0 ms by its own clock"),
        (GOOD, {"sleep": {"samples_ms": [40.0] * 3}}, "lasts 40.0 ms"),
        (GOOD, {"work": {"samples_ms": [15, 20, 25], "cpu_ms": [15, 20, 25]}}, "scatter by 40%"),
        (GOOD, {"work": HALVES}, "20% longer in the end"),
        (GOOD, {"work": {"cpu_ms": [10.0, 10.0, 10.0]}}, "waited 101% of its time"),
        (GOOD, {"work": {"busy": True}}, "other work held its cores"),
        (GOOD, {"throttled": True}, "slowed down for its heat"),
    ],
)
def test_each_problem_is_said(clock, changes, said):
    found = judge(clock, check(**changes), 20.0)
    assert not found.trusted
    assert said in "; ".join(found.problems)


def test_a_drift_within_the_readings_error_is_no_problem():
    assert judge(ClockDrift(0.012, 0.005), check(), 20.0).trusted


def test_what_is_no_problem_is_noted():
    found = judge(GOOD, check(governor="powersave", temperature_c=90.0, throttled=None), 20.0)
    assert found.trusted
    assert len(found.notes) == 3


def test_spread_and_slowdown_of_known_samples():
    assert spread([100.0] * 5) == 0
    assert spread(range(1, 12)) == pytest.approx((10 - 2) / 6)
    assert slowdown([1, 1, 1, 9, 9, 9, 2, 2, 2]) == pytest.approx(1.0)
    assert slowdown([3.0]) == 0
