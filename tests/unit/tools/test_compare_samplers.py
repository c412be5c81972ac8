import itertools

import numpy as np
import pytest

from edgekd.search.front import loss_values, non_dominated
from tools.search.compare_samplers import CHEAPEST, FULL, Model, _candidate, follow, sweep_progress


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.draw(0)


def test_the_exact_front_is_that_of_the_scores(model):
    """Of a slice that can be listed: all layouts of the dimensions that are left free."""
    free = {"stages.0.pairs": 4, "stages.1.width": 3, "mid": 2, "decoder": 3, "steps": 7}
    rows = itertools.product(*map(range, free.values()))
    settings = [{**FULL, **dict(zip(free, row, strict=True))} for row in rows]
    values = loss_values([model.score(_candidate(setting)) for setting in settings])
    exact = model.exact()
    # Sizes are rounded to bytes.
    behind = (exact[None] <= values[non_dominated(values)][:, None] + 1e-6).all(axis=2)
    assert behind.any(axis=1).all()


def test_the_known_settings_are_the_ends(model):
    full, cheapest = (model.score(_candidate(setting)) for setting in (FULL, CHEAPEST))
    assert full.cost.latency_ms > cheapest.cost.latency_ms
    assert full.quality > cheapest.quality


def test_shares_grow_with_what_is_scored(model):
    shares = follow(sweep_progress(0, model), 0.2, model.exact())
    counts = [share for mark, share in shares.items() if not mark.endswith(" s")]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1] <= 1 + 1e-6
    assert np.isfinite(counts).all()
