import pytest

from edgekd.export.onnx.tune import choose
from edgekd.measure.clock import Latency


@pytest.mark.parametrize(("factor", "best"), [(0.5, "other"), (0.99, "default"), (1.5, "default")])
def test_default_stays_unless_another_is_clearly_faster(factor, best):
    samples = (10.0, 40.0, 20.0)  # the machine slows down in the second round, for both
    latencies = {
        "default": Latency(samples, ()),
        "other": Latency(tuple(factor * item for item in samples), ()),
    }
    assert choose(latencies) == best
