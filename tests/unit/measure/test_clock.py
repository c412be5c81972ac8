import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from edgekd.errors import InputError
from edgekd.measure import clock
from edgekd.measure.clock import NS_PER_MS, Latency, Watch, time_calls, time_interleaved
from edgekd.measure.waiting import Clocks


def test_a_known_sleep_is_timed_in_milliseconds():
    latency = time_calls(lambda: time.sleep(0.02), warmup=1, runs=5)
    # A sleep may be longer than asked for on a busy machine, never shorter.
    assert 20.0 <= min(latency.samples_ms) < 60.0


class Told:
    """The stopwatch's `time`, which passes only where a call says so."""

    def __init__(self) -> None:
        self.ms = 0.0

    def perf_counter_ns(self) -> int:
        return int(self.ms * NS_PER_MS)

    process_time_ns = perf_counter_ns

    def take(self, ms: float) -> None:
        self.ms += ms


@pytest.fixture
def told(monkeypatch) -> Told:
    told = Told()
    monkeypatch.setattr(clock, "time", told)
    return told


def test_first_call_is_kept_apart_from_the_samples(told):
    took = iter([100.0, 1.0, 2.0, 3.0])
    latency = time_calls(lambda: told.take(next(took)), warmup=1, runs=3)
    assert (latency.warmup_ms, latency.samples_ms) == ((100.0,), (1.0, 2.0, 3.0))


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


def test_interleaving_spreads_a_slow_phase_over_all_callables(told):
    """A machine that slows down midway must not change the ratio of equal callables."""

    def work():
        told.take(2 if told.ms < 80 else 20)

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


@dataclass
class Meter:
    """Gives what `read` finds when a sample has ended."""

    read: Callable[[], float]
    source: str = "fake"

    def start(self) -> Callable[[], float]:
        return self.read


class Machine:
    """Clocks of a machine on which each call waits for a core as long as is told.

    Attributes:
        waits: seconds, of one call after the other; each uses one second of processor time.
    """

    def __init__(self, *waits: float) -> None:
        self.waits = list(waits)
        self.now = Clocks(0.0, 0.0, 0.0)
        self.calls = 0

    def call(self) -> None:
        waited = self.waits[self.calls]
        self.calls += 1
        now = self.now
        self.now = Clocks(now.wall + 1 + waited, now.processor + 1, (now.waiting or 0) + waited)

    def watch(self, threads: int, repeats: int) -> Watch:
        return Watch(threads, repeats, clocks=lambda: self.now)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_quiet_machine_is_timed_once(threads):
    machine = Machine(0.0, 0.1, 0.0)
    latency = time_interleaved({"a": machine.call}, 0, 3, machine.watch(threads, 2))["a"]
    assert (machine.calls, latency.repeats, latency.busy) == (3, 0, False)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_busy_machine_is_timed_again_until_it_is_quiet(threads):
    machine = Machine(1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 9.9)
    latency = time_interleaved({"a": machine.call}, 0, 3, machine.watch(threads, 2))["a"]
    assert (machine.calls, latency.repeats, latency.busy) == (6, 1, False)
    assert len(latency.samples_ms) == 3


def test_a_machine_that_stays_busy_is_marked():
    machine = Machine(*[1.0] * 9)
    latency = time_interleaved({"a": machine.call}, 0, 3, machine.watch(1, 2))["a"]
    assert (machine.calls, latency.repeats, latency.busy) == (9, 2, True)
    assert latency.to_dict()["busy"] is True


def test_the_quietest_rounds_are_kept_in_their_order():
    """By waiting, not by time: else every row would be shown faster than it is."""
    machine = Machine(0.9, 0.3, 0.8, 0.9, 0.0, 0.1)
    watch = replace(machine.watch(1, 1), meter=Meter(lambda: float(machine.calls)))
    latency = time_interleaved({"a": machine.call}, 0, 3, watch)["a"]
    assert latency.joules == (2, 5, 6)


def test_where_waiting_cannot_be_told_nothing_is_claimed():
    unknown = Watch(2, 3, clocks=lambda: Clocks(0.0, 0.0, None))
    latency = time_interleaved({"a": lambda: None}, 0, 2, unknown)["a"]
    assert (latency.repeats, latency.busy, len(latency.samples_ms)) == (0, False, 2)


def test_energy_is_metered_around_each_sample():
    counted = []
    watch = Watch(meter=Meter(lambda: 2.5 * len(counted)))
    latency = time_interleaved({"a": lambda: counted.append(1)}, 1, 2, watch)["a"]
    assert latency.joules == (5.0, 7.5)
