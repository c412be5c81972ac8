"""Rows on other devices, by devices that answer at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.fake_agent import ENVIRONMENT
from fixtures.fake_devices import FakeDevice, connected, lost

from edgekd.benchmark import device_cost
from edgekd.benchmark.device_cost import cost_on_devices
from edgekd.benchmark.device_rows import device_rows
from edgekd.benchmark.rows import MatrixFigures
from edgekd.errors import GateError
from edgekd.metrics.metric import Figure, Pictures, Reference
from edgekd.metrics.registry import load_metrics
from edgekd.progress import Silent
from edgekd.report.schema import Parity, Row

SPEED = {"threads": 2, "warmup": 1, "component_runs": 4, "image_runs": 3, "cold_starts": 1}
REFERENCE = Reference(np.zeros((4, 2), np.float32), "e", "s", 1, 2, 0)
PICTURES = Pictures([], (), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


@pytest.fixture
def on(make_matrix):
    """`on(names, *devices, **suite)`: a matrix that is measured on these."""

    def make(names, *devices, **suite):
        matrix = make_matrix(names, **{"speed": SPEED, **suite})
        costs = [metric for metric in load_metrics() if metric.descriptor.source != "pictures"]
        return replace(matrix, devices=devices, metrics=tuple(costs))

    return make


def host_row(name: str) -> Row:
    return Row(
        name=name, model="m", role="student", runtime="onnx", precision="fp32", not_executed=None,
        evaluated="by its files", generation=None, component_parameters={"unet": 5},
        component_bytes={"unet": 20}, stored_dtype=None,
        parity={"unet": Parity(snr_db=90, floor_db=60)},
        figures={"score": Figure(value=27.0), "latency_ms": Figure(value=1.0)},
    )  # fmt: skip


def rows_of(matrix, costs):
    measured = MatrixFigures(PICTURES, REFERENCE, threads=2)
    measured.devices = costs
    return device_rows(matrix, measured, [host_row(case.name) for case in matrix.cases])


def test_a_device_times_all_rows_in_one_job_as_the_suite_says(on):
    device = FakeDevice()
    matrix = on("ab", connected("pi", device))
    (cost,) = cost_on_devices(matrix, Silent())
    (order,) = device.orders
    assert list(order.rows) == ["a", "b"]
    assert order.rows["a"].folder == Path("a")
    drawing = order.rows["a"].drawing
    assert (drawing.captions, drawing.side, drawing.steps) == (("red",), 64, 6)
    settings = order.settings
    assert (settings.threads, settings.memory, settings.cold_starts) == (2, True, 1)
    assert (settings.speed.image_runs, settings.speed.component_runs) == (3, 4)
    assert cost.record.environment.cpu.model == "a cpu"
    assert cost.record.environment.throttled is False


def test_the_row_of_a_device_has_its_costs_and_the_hosts_quality(on):
    matrix = on("a", connected("pi", FakeDevice(latency_ms=80.0)))
    (row,) = rows_of(matrix, cost_on_devices(matrix, Silent()))
    assert (row.name, row.device, row.pictures_of) == ("a on pi", "pi", "a")
    assert row.value("latency_ms") == 80.0
    assert row.value("peak_bytes") == 50
    assert row.value("peak_above_baseline_bytes") == 40
    assert row.value("cold_start_ms") == 6
    assert row.value("joules") == 2.0
    assert row.value("score") == 27.0
    assert row.evaluated is None  # it was executed there
    assert row.parity == row.component_bytes == {}
    assert row.energy.source == "a counter"


def test_what_is_known_is_not_measured_again_and_what_differs_is(on):
    device = FakeDevice()
    first = cost_on_devices(on("ab", connected("pi", device)), Silent())
    again = cost_on_devices(on("ab", connected("pi", device)), Silent())
    assert len(device.orders) == 1
    assert again[0].rows == first[0].rows
    versions = {**ENVIRONMENT["versions"], "onnxruntime": "1.31.0"}
    newer = connected("pi", device, environment={**ENVIRONMENT, "versions": versions})
    for matrix in (
        on("ab", newer),
        on("ab", connected("other", device)),
        on("ab", connected("pi", device), speed={**SPEED, "threads": 1}),
    ):
        cost_on_devices(matrix, Silent())
    assert len(device.orders) == 4
    changed = on("ab", connected("pi", device))
    changed.keys["b"] = "another model"
    cost_on_devices(changed, Silent())
    assert len(device.orders) == 5


def test_a_runtime_that_is_not_there_is_not_executed(on):
    device = FakeDevice()
    matrix = on("a", connected("pi", device))
    phone = replace(matrix.cases[0], name="phone", runtime="coreml")
    matrix = replace(matrix, cases=(*matrix.cases, phone), keys={**matrix.keys, "phone": "k"})
    here, there = rows_of(matrix, cost_on_devices(matrix, Silent()))
    assert here.not_executed is None
    assert there.not_executed == "coreml does not run on `pi`"
    assert list(device.orders[0].rows) == ["a"]


def test_torch_stays_here(on):
    device = FakeDevice()
    matrix = on("ab", connected("pi", device))
    torch = replace(matrix.cases[0], runtime="torch")
    matrix = replace(matrix, cases=(torch, matrix.cases[1]))
    assert [row.name for row in rows_of(matrix, cost_on_devices(matrix, Silent()))] == ["b on pi"]


def test_a_row_that_fails_there_fails_alone(on):
    device = FakeDevice()
    matrix = on("a", connected("pi", device))
    broken = replace(matrix.cases[0], name="broken")
    matrix = replace(matrix, cases=(*matrix.cases, broken), keys={**matrix.keys, "broken": "k"})
    good, bad = rows_of(matrix, cost_on_devices(matrix, Silent()))
    assert good.failed is None
    assert bad.failed == "it is broken"
    assert bad.value("latency_ms") is None
    cost_on_devices(matrix, Silent())  # it may have been for want of memory, or a limit there
    assert len(device.orders) == 2


def test_what_was_measured_there_is_shown_whatever_fails_here_later(on):
    matrix = on("ab", connected("pi", FakeDevice(latency_ms=80.0)))
    costs = cost_on_devices(matrix, Silent())
    matrix.failures.record("a", "a figure that is not finite")
    rows = rows_of(matrix, costs)
    assert [(row.name, row.value("latency_ms")) for row in rows] == [
        ("a on pi", 80.0),
        ("b on pi", 80.0),
    ]


def test_a_device_takes_many_rows_in_several_jobs(on, monkeypatch):
    """It was hot if it was in any of them."""
    monkeypatch.setattr(device_cost, "MAX_ROWS", 2)
    device = FakeDevice()
    measure = device.measure_exports

    def hot_at_first(order):
        found = measure(order)
        return found.model_copy(update={"throttled": "a" in order.rows, "load_average": 2.5})

    monkeypatch.setattr(device, "measure_exports", hot_at_first)
    (cost,) = cost_on_devices(on("abc", connected("pi", device)), Silent())
    assert [list(order.rows) for order in device.orders] == [["a", "b"], ["c"]]
    assert sorted(cost.rows) == ["a", "b", "c"]
    assert (cost.record.environment.throttled, cost.record.load_average) == (True, 2.5)


def test_a_suite_that_measures_no_cost_has_rows_all_the_same(on):
    matrix = on("a", connected("pi", FakeDevice()), speed=None, memory=False)
    (row,) = rows_of(matrix, cost_on_devices(matrix, Silent()))
    assert (row.name, row.value("score"), row.value("latency_ms")) == ("a on pi", 27.0, None)


def test_a_picture_that_no_device_draws_fails_its_rows_alone(on):
    device = FakeDevice()
    matrix = on("ab", connected("pi", device))
    long = replace(matrix.prompts, captions=["a" * 5000])
    rows = rows_of(matrix, cost_on_devices(replace(matrix, prompts=long), Silent()))
    assert ["captions" in row.failed for row in rows] == [True, True]
    assert device.orders == []


def test_a_job_that_dies_is_repeated_row_by_row(on):
    device = FakeDevice()

    def dies(order):
        if "b" in order.rows:
            raise GateError("the process must live", "SIGSEGV")

    device.fault = dies
    matrix = on("abc", connected("pi", device))
    rows = rows_of(matrix, cost_on_devices(matrix, Silent()))
    assert ["".join(order.rows) for order in device.orders] == ["abc", "a", "b", "c"]
    assert [bool(row.failed) for row in rows] == [False, True, False]


def test_a_lost_device_is_waited_for_once_and_stops_no_other(on):
    gone, there = FakeDevice(), FakeDevice()
    gone.fault = lost
    matrix = on("ab", connected("gone", gone), connected("pi", there))
    costs = cost_on_devices(matrix, Silent())
    rows = rows_of(matrix, costs)
    assert len(gone.orders) == 1
    assert [(row.device, bool(row.failed)) for row in rows] == [
        ("gone", True), ("gone", True), ("pi", False), ("pi", False),
    ]  # fmt: skip
    assert "silence" in rows[0].failed
    assert [cost.device.name for cost in costs] == ["gone", "pi"]
    assert costs[0].record.environment.cpu.model == "a cpu"  # the report shows it, with its rows
    again = on("ab", connected("gone", gone), connected("pi", there))
    cost_on_devices(again, Silent())
    assert (len(gone.orders), len(there.orders)) == (2, 1)


def test_without_this_machine_nothing_is_timed_here(on):
    assert len(on("a", devices=["local", "pi"]).timed) == 1
    assert on("a", devices=["pi"]).timed == ()
