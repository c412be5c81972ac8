import numpy as np
import pytest

from edgekd.benchmark.graph_cost import summary
from edgekd.measure.graph_timing import TimedGraph, median_error, typical


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
