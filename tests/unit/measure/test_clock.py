import time

import pytest

from edgekd.errors import InputError
from edgekd.measure.clock import Latency, time_calls, time_interleaved


def test_a_known_sleep_is_timed_in_milliseconds():
    latency = time_calls(lambda: time.sleep(0.02), warmup=1, runs=5)
    # A sleep may be longer than asked for on a busy machine, never shorter.
    assert min(latency.samples_ms) >= 20.0
    assert latency.p50_ms < 60.0


def test_first_call_is_kept_apart_from_the_samples():
    seconds = iter([0.1, 0.0, 0.0, 0.0])
    latency = time_calls(lambda: time.sleep(next(seconds)), warmup=1, runs=3)
    assert len(latency.samples_ms) == 3
    assert latency.warmup_ms[0] >= 100.0
    assert latency.p90_ms < 50.0


def test_processor_time_counts_work_and_not_waiting():
    def work():
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    asleep = time_calls(lambda: time.sleep(0.05), warmup=0, runs=3)
    busy = time_calls(work, warmup=0, runs=3)
    assert max(asleep.cpu_ms) < 20
    assert 20 <= min(busy.cpu_ms) < 40
    assert busy.to_dict()["cpu_p50_ms"] == sorted(busy.cpu_ms)[1]


def test_rounds_take_turns_and_rotate_their_start():
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    latencies = time_interleaved(calls, warmup=1, runs=2)
    assert "".join(order) == "abcbcacab"
    assert all(len(latency.samples_ms) == 2 for latency in latencies.values())


def test_interleaving_spreads_a_slow_phase_over_all_callables():
    """A machine that slows down midway must not change the ratio of equal callables."""
    started = time.perf_counter()

    def work():
        time.sleep(0.002 if time.perf_counter() - started < 0.08 else 0.02)

    latencies = time_interleaved({"first": work, "second": work}, warmup=0, runs=30)
    ratio = sum(latencies["first"].samples_ms) / sum(latencies["second"].samples_ms)
    assert ratio == pytest.approx(1.0, abs=0.15)


def test_percentiles_interpolate_linearly():
    latency = Latency(samples_ms=(4.0, 1.0, 3.0, 2.0), warmup_ms=())
    assert latency.p50_ms == 2.5
    assert latency.p90_ms == pytest.approx(3.7)
    assert latency.to_dict()["samples_ms"] == [4.0, 1.0, 3.0, 2.0]


@pytest.mark.parametrize(("warmup", "runs"), [(0, 0), (-1, 1)])
def test_bad_counts_are_refused(warmup, runs):
    with pytest.raises(InputError, match="runs >= 1"):
        time_calls(lambda: None, warmup=warmup, runs=runs)
