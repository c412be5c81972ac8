from __future__ import annotations

import pytest

from edgekd.distill.schedule import learning_rate
from edgekd.recipe import DistillSection


def _section(**values: object) -> DistillSection:
    return DistillSection.model_validate(
        {"steps": 100, "learning_rate": 1.0, "warmup_steps": 10, **values}
    )


def test_warms_up_then_falls_as_a_cosine() -> None:
    section = _section()
    assert learning_rate(section, 0) == pytest.approx(0.1)
    assert learning_rate(section, 9) == pytest.approx(1.0)
    assert learning_rate(section, 10) == pytest.approx(1.0)
    assert learning_rate(section, 99) == pytest.approx(0.01)
    rates = [learning_rate(section, step) for step in range(10, 100)]
    assert rates == sorted(rates, reverse=True)


def test_constant_after_warm_up() -> None:
    section = _section(lr_schedule="constant")
    assert {learning_rate(section, step) for step in range(10, 100)} == {1.0}


def test_runs_shorter_than_the_warm_up() -> None:
    section = _section(steps=1, warmup_steps=0)
    assert learning_rate(section, 0) == 1.0
