import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from edgekd.benchmark.graph_cost import summary
from edgekd.files import write_tensors
from edgekd.measure import graph_timing
from edgekd.measure.graph_timing import (
    INPUTS_FILE,
    Rounds,
    TimedGraph,
    TimingOrder,
    agree,
    median_error,
    time_graph,
    typical,
)


def timed(graph, reference) -> TimedGraph:
    return TimedGraph(tuple(graph), tuple(reference), 100, 300)


def test_what_slows_graph_and_reference_alike_is_not_seen():
    slow = np.array([1, 1, 2, 2, 1.5, 1, 3, 1, 2])
    found = summary(timed(6 * slow, 2 * slow), 7, reference_ms=2)
    assert found.latency_ms == pytest.approx(6)
    assert found.cv == pytest.approx(0, abs=1e-9)
    assert found.drift == pytest.approx(1.5)
    assert (found.file_bytes, found.baseline_bytes, found.peak_bytes) == (7, 100, 300)


def test_a_slow_reference_does_not_make_a_graph_slow():
    """A device that is twice as slow for a while: the figure is that of before."""
    found = summary(timed([12.0] * 9, [4.0] * 9), 0, reference_ms=2)
    assert found.latency_ms == pytest.approx(6)
    assert found.drift == pytest.approx(2)


def test_outliers_are_counted_and_left_out():
    graph = 6 * np.exp(np.random.default_rng(0).normal(0, 0.01, 60))
    graph[[3, 17]] = 90
    found = summary(timed(graph, np.full(60, 2.0)), 0, reference_ms=2)
    assert found.outliers == 2
    assert found.cv < 0.02
    assert len(found.samples_ms) == 60
    assert found.latency_ms == pytest.approx(6, rel=0.01)


def test_equal_values_are_all_typical():
    assert typical(np.ones(5)).all()


def test_the_median_is_known_better_with_more_samples():
    values = np.random.default_rng(0).normal(10, 1, 400)
    assert median_error(values) == pytest.approx(1.25 * 0.1 / 20, rel=0.15)
    assert median_error(values[:100]) > median_error(values)


@pytest.mark.parametrize(
    ("medians", "enough"),
    [
        ([2.0], False),
        ([2.0, 2.05], True),
        ([2.0, 2.4], False),
        ([2.0, 2.4, 2.02], True),
        ([2.0, 2.4, 2.8], False),
        ([2.0, 2.4, 2.0, 2.4], False),
        ([2.0, 2.4, 2.0, 2.4, 2.0], True),
    ],
)
def test_most_openings_must_agree(medians, enough):
    assert agree(medians) == enough


@pytest.mark.parametrize("who", ["graph", "reference"])
def test_one_slow_opening_of_three_is_left_out(who):
    """Opened once with a fifth less luck, which of the two it may be."""
    factor = np.repeat([1.2, 1.0, 1.0], 7) * (1 + 0.002 * np.tile(np.arange(7), 3))
    graph, reference = np.full(21, 6.0), np.full(21, 2.0)
    (graph if who == "graph" else reference)[:] *= factor
    found = summary(timed(graph, reference), 0, reference_ms=2)
    assert found.latency_ms == pytest.approx(6, rel=0.01)
    assert found.outliers == 7


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the folders that a runtime named `busy` opens, in order."""
    found = []

    def backend(folder, options):
        found.append(folder.name)
        return SimpleNamespace(run=lambda component, inputs: sum(range(3000)))

    runtime = SimpleNamespace(backend=backend)
    monkeypatch.setattr(graph_timing, "runtimes", lambda: {"busy": runtime})
    return found


def test_each_batch_opens_graph_and_reference_anew(tmp_path, opened):
    for name in ("graph", "reference"):
        (tmp_path / name).mkdir()
        write_tensors(tmp_path / name / INPUTS_FILE, {"sample": np.zeros(1, np.float32)})
    order = TimingOrder("unet", tmp_path / "graph", tmp_path / "reference", "busy", "fp32", 1)
    endless = Rounds(seconds=0, batches=3, known_well=0)
    found = time_graph(dataclasses.replace(order, rounds=endless))
    assert opened == ["graph", "reference"] * 3
    assert len(found.graph_ms) == len(found.reference_ms)
    assert len(found.graph_ms) % 3 == 0
