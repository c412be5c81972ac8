"""A term of somebody else in a whole run."""

import pytest
from fixtures.outside import TERM

from edgekd.benchmark.curves import load_curve
from edgekd.entries import TERMS
from edgekd.report.plots.training import curve_terms, loss_curves


def test_a_term_from_outside_is_trained_logged_and_plotted(install, bench, tmp_path):
    install(TERMS, "middle", TERM)
    losses = {"task": 0, "output": 1, "feature": 0, "middle": 0.5}
    result = bench.run(tmp_path / "run", losses=losses, steps=2)
    curve = load_curve(result.metrics_path)
    first = {name: points[0][1] for name, points in curve.items()}
    assert first["loss"] == pytest.approx(first["output"] + 0.5 * first["middle"])
    assert curve_terms({"student": curve})[:3] == [
        ("loss", "loss (sum of weighted terms)"),
        ("output", "output: teacher's prediction"),
        ("middle", "middle: by strangers"),
    ]
    assert "middle: by strangers" in str(loss_curves({"student": curve}))
