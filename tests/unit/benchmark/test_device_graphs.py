"""Graphs on devices that answer at once: who measures what, and what a lost device costs."""

import pytest
from fixtures.fake_agent import ENVIRONMENT
from fixtures.fake_devices import FakeDevice, connected, lost

from edgekd.benchmark.device_graphs import DeviceTimer, device_conditions
from edgekd.benchmark.graph_cost import Referenced
from edgekd.devices.link import LostDeviceError
from edgekd.devices.orders import GraphSettings
from edgekd.errors import InputError
from edgekd.search.blocks import Block
from edgekd.search.graphs import Graph
from edgekd.search.measurements import MeasurementStore, StoredMeasure

SETTINGS = GraphSettings(
    runtime="onnx", precision="fp32", threads=1, seconds=1, batches=1, known_well=0.1
)


def block(width: int) -> Graph:
    found = Block(
        kind="residual", inputs=width, outputs=width, condition=64, height=16, width=16, groups=8
    )
    return Graph(kind="block", block=found)


class Texts:
    """Converts a block into a text of as many letters as it has channels."""

    def __init__(self, folder, broken=0):
        self.folder = folder
        self.broken = broken

    def convert(self, graph, folder):
        folder.mkdir()
        width = graph.block.inputs if graph.block else 10
        (folder / "model").write_text("broken" if width == self.broken else "x" * width)
        return width

    def reference_folder(self):
        return self.folder


@pytest.fixture
def measure(tmp_path):
    """`measure(*devices)`: a stored measure on them, and its timer."""

    def make(*devices, **texts):
        timer = DeviceTimer(devices, Texts(tmp_path, **texts), SETTINGS)
        store = MeasurementStore(tmp_path / "store", device_conditions(devices, "onnx", "fp32", 1))
        return Referenced(timer, StoredMeasure(timer, store))

    return make


def asked(*devices):
    """Graphs of each job, of each device."""
    return [[len(order.graphs) for order in device.orders] for device in devices]


def test_graphs_go_in_pieces_and_are_measured_once(measure):
    device = FakeDevice()
    pi = connected("pi", device)
    found = measure(pi)([block(width) for width in range(1, 11)])
    assert asked(device) == [[1, 4, 4, 2]]  # the reference, then two calls of eight and two
    # A reference of ten letters takes 10 ms: a letter is a millisecond.
    assert [one.latency_ms for one in found] == pytest.approx(list(range(1, 11)))
    assert [one.file_bytes for one in found] == list(range(1, 11))
    assert measure(pi)([block(3), block(11)])[0] == found[2]
    assert asked(device) == [[1, 4, 4, 2, 1]]


def test_the_speed_of_a_device_of_the_class_is_not_in_the_figures(measure):
    fast, slow = FakeDevice(factor=1.0), FakeDevice(factor=3.0)
    devices = (connected("a", fast), connected("b", slow))
    found = measure(*devices)([block(width) for width in range(1, 17)])
    latencies = [one.latency_ms for one in found]
    assert latencies[7] / latencies[3] == pytest.approx(2)
    assert sum(map(sum, asked(fast, slow))) == 17


def test_a_lost_device_leaves_its_work_to_the_others(measure):
    gone, there = FakeDevice(), FakeDevice()
    gone.fault = lost
    wanted = [block(width) for width in range(1, 17)]
    found = measure(connected("gone", gone), connected("there", there))(wanted)
    assert [one.latency_ms for one in found] == pytest.approx(list(range(1, 17)))
    assert len(gone.orders) <= 1  # one try, and it is asked for nothing more


def test_without_any_device_it_ends_with_what_was_measured(measure, tmp_path):
    device = FakeDevice()
    pi = connected("pi", device)

    def goes_away(order):
        if len(device.orders) > 3:
            lost(order)

    device.fault = goes_away
    with pytest.raises(LostDeviceError, match="silence"):
        measure(pi)([block(width) for width in range(1, 13)])
    device.fault = lambda order: None
    measure(pi)([block(width) for width in range(1, 13)])
    assert asked(device) == [[1, 4, 4, 4, 4]]  # one piece was lost
    assert not list(tmp_path.glob("graph-*"))


def test_what_a_job_measured_is_kept_when_it_returns(measure, tmp_path):
    """A search that is killed while a job is out loses that job's graphs alone."""
    device, kept = FakeDevice(), []
    device.fault = lambda order: kept.append(len(list((tmp_path / "store").glob("*.json"))))
    measure(connected("pi", device))([block(width) for width in range(1, 11)])
    assert asked(device) == [[1, 4, 4, 2]]
    assert kept == [0, 1, 5, 9]


def test_a_graph_that_fails_there_is_named(measure):
    with pytest.raises(InputError, match=r"residual 7-7.*it does not open"):
        measure(connected("pi", FakeDevice()), broken=7)([block(7), block(8)])
    # The others of its job are not measured again.
    device = FakeDevice()
    measure(connected("pi", device))([block(7), block(8)])
    assert asked(device) == [[1]]


def test_devices_of_a_class_must_be_alike():
    other = {**ENVIRONMENT, "versions": {"onnxruntime": "1.31.0"}}
    one, two = connected("a", FakeDevice()), connected("b", FakeDevice(), environment=other)
    with pytest.raises(InputError, match="others on `b` than on `a`"):
        device_conditions([one, two], "onnx", "fp32", 1)
    with pytest.raises(InputError, match=r"`a` must run coreml.*runs onnx"):
        device_conditions([one], "coreml", "fp16", 1)


def test_conditions_tell_classes_devices_and_this_machine_apart():
    pi = device_conditions([connected("a", FakeDevice(), "pi")], "onnx", "fp32", 1)
    assert pi == device_conditions([connected("b", FakeDevice(), "pi")], "onnx", "fp32", 1)
    assert pi != device_conditions([connected("a", FakeDevice(), "phone")], "onnx", "fp32", 1)
    assert pi.cpu["model"] == "a cpu"
    assert pi.versions["onnxruntime"] == "1.30.0"
    assert any(name.endswith(" here") for name in pi.versions)
