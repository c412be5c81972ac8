import os
import time

import pytest

from edgekd.devices.process import Bounds, EndedError, Measuring


def test_calls_too_short_to_be_watched_end_with_their_work():
    """A job of many short calls would else outlive its time, and its cancelling."""
    bounds = Bounds(seconds=60)
    with Measuring(1, bounds) as process:
        assert process.call(int, os.getpid) != os.getpid()
        bounds.stop.set()
        with pytest.raises(EndedError) as cancelled:
            process.call(int, os.getpid)
    assert cancelled.value.reason == "cancelled"
    bounds = Bounds(seconds=2)
    with Measuring(1, bounds) as process:
        process.call(int, os.getpid)
        time.sleep(2)
        with pytest.raises(EndedError) as late:
            process.call(int, os.getpid)
    assert late.value.reason == "timeout"
