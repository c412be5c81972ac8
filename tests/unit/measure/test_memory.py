"""Peaks of this process."""

import numpy as np

from edgekd.measure.memory import forget_peak, peak_resident_bytes

MIB = 1024**2


def test_a_forgotten_peak_is_counted_anew():
    ballast = np.ones(300 * MIB // 8)
    before = peak_resident_bytes()
    del ballast
    if forget_peak():
        assert peak_resident_bytes() < before - 200 * MIB
    else:  # only Linux can
        assert peak_resident_bytes() >= before
