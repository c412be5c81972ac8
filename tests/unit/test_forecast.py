import pytest

from edgekd.forecast import Forecast, distill_macs
from edgekd.recipe import DistillSection, LossSection


def test_pace_of_finished_stages_corrects_the_rest():
    forecast = Forecast({"prepare": 10.0, "distill": 100.0, "report": 50.0})
    assert forecast.remaining_seconds() == pytest.approx(160.0)
    forecast.finish("prepare", 20.0)
    assert forecast.remaining_seconds() == pytest.approx(300.0)
    forecast.finish("distill", 90.0)
    assert forecast.remaining_seconds() == pytest.approx(50.0)
    forecast.finish("report", 50.0)
    assert forecast.remaining_seconds() == 0.0


def test_resumed_stages_cost_nothing():
    forecast = Forecast({"prepare": 0.0, "distill": 100.0})
    forecast.finish("prepare", 0.5)
    assert forecast.remaining_seconds() == pytest.approx(100.0)


def test_without_kd_the_teacher_costs_nothing():
    section = DistillSection(
        steps=10, batch_size=4, losses=LossSection(task=1, output=0, feature=0)
    )
    assert distill_macs(section, teacher_macs=5.0, student_macs=2.0) == 10 * 4 * 6.0
    section = DistillSection(steps=10, batch_size=4)
    assert distill_macs(section, teacher_macs=5.0, student_macs=2.0) == 10 * 4 * 11.0
