import pytest

from edgekd.distill.trainer import rate_schedule as distill_rates
from edgekd.recipe_distill import DistillSection
from edgekd.teach.loop import rate_schedule as teach_rates
from edgekd.teach.recipe import TrainSection


def distilled(**values: object) -> list[float]:
    """Rates of all steps."""
    section = DistillSection.model_validate(
        {"steps": 100, "learning_rate": 1.0, "warmup_steps": 10, **values}
    )
    return [distill_rates(section).at(step) for step in range(section.steps)]


def taught(steps: int = 10, warmup: int = 2, decay: int = 3) -> list[float]:
    values = {"phases": [{"steps": steps, "batch_size": 1}], "learning_rate": 0.5}
    section = TrainSection.model_validate({**values, "warmup_steps": warmup, "decay_steps": decay})
    return [teach_rates(section).at(step) for step in range(steps + 1)]


def test_distillation_warms_up_then_falls_as_a_cosine():
    rates = distilled()
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.505, abs=0.01)
    assert rates[99] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_constant_after_warm_up():
    assert set(distilled(lr_schedule="constant")[10:]) == {1.0}


def test_runs_shorter_than_the_warm_up():
    assert distilled(steps=1, warmup_steps=0) == [1.0]
    assert distilled(steps=2) == pytest.approx([0.1, 0.2])


def test_a_teacher_warms_up_holds_and_falls_to_zero():
    rates = taught()
    assert rates[:8] == [0.5] + [1.0] * 7
    assert 1 > rates[8] > rates[9] > 0
    assert rates[10] == pytest.approx(0)


def test_a_decay_longer_than_the_run_begins_with_it():
    rates = taught(warmup=0, decay=10_000)
    assert rates[0] == 1
    assert rates[5] == pytest.approx(0.5)
