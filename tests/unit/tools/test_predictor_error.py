import contextlib

import pytest
from fixtures.graph_costs import LawfulDevice

from edgekd.jobs.search_cost import CostMeter
from tools.search import predictor_error


@pytest.fixture
def ask(tiny_teacher, monkeypatch, capsys):
    """`ask(device, *arguments)`: what is printed where a device prices all graphs."""

    def run(device, *arguments: str) -> str:
        @contextlib.contextmanager
        def meter(place):
            yield CostMeter(place, dict.fromkeys(place.runtimes, device))

        monkeypatch.setattr(predictor_error, "open_meter", meter)
        predictor_error.main(["--teacher", str(tiny_teacher), *arguments])
        return capsys.readouterr().out

    return run


def test_students_that_the_predictor_has_not_seen_are_measured(ask):
    device = LawfulDevice()
    told = ask(device, "--measurements", "50", "--candidates", "20", "--precision", "int8")
    assert told.startswith("onnx int8, 1 thread(s): 50 measured graphs in ")
    assert "; 20 held out: off by " in told
    keys = [graph.key() for graph in device.asked]
    assert len(keys) == len(set(keys)) == 70
    assert [graph.kind for graph in device.asked[50:]] == ["unet"] * 20
    assert float(told.rpartition(" ")[2]) > 0.95


def test_a_device_without_a_law_is_not_told(ask):
    told = ask(LawfulDevice(random_wholes=True), "--candidates", "20")
    assert float(told.rpartition(" ")[2]) < 0.7


def test_no_more_is_measured_than_there_is_time_for(ask):
    device = LawfulDevice()
    ask(device, "--seconds", "1e-6", "--candidates", "3")
    assert len(device.asked) < 15
