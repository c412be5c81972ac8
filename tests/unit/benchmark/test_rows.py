import numpy as np
import pytest

from edgekd.benchmark.rows import figures_of
from edgekd.errors import GateError
from edgekd.metrics.metric import Descriptor, Figure, Measurements, Metric, Reference

FOUND = Measurements(Reference(np.zeros((4, 2), np.float32), "e", "s", 1, 2, 0))
DESCRIPTOR = Descriptor(name="new", label="n", title="n", direction="lower", source="files")


@pytest.mark.parametrize(
    "figure",
    [
        Figure(value=float("nan")),
        Figure(value=float("inf")),
        Figure(value=1.0, error=float("nan")),
        Figure(value=1.0, samples=[1.0, float("nan")]),
    ],
    ids=str,
)
def test_a_metric_that_is_not_finite_fails_the_gate(figure: Figure) -> None:
    with pytest.raises(GateError, match="`new` of `student`") as error:
        figures_of("student", [Metric(DESCRIPTOR, lambda _: figure)], FOUND)
    assert error.value.exit_code == 3


def test_missing_figures_are_not_failures() -> None:
    assert figures_of("student", [Metric(DESCRIPTOR, lambda _: None)], FOUND) == {"new": None}
