"""A benchmark whose exported rows are drawn here and timed by an agent; graphs that two agents
share."""

import re
import shutil

import numpy as np
import pytest
from fixtures.agents import measuring_agent
from fixtures.exported import write_export

from edgekd.benchmark.cases import Case
from edgekd.benchmark.device_graphs import DeviceTimer, device_conditions
from edgekd.benchmark.extract import ShippedRows
from edgekd.benchmark.run import MatrixRequest, benchmark
from edgekd.benchmark.suite import Suite
from edgekd.devices.connect import DeviceChoice
from edgekd.devices.listing import add_entry
from edgekd.devices.orders import GraphSettings
from edgekd.errors import InputError
from edgekd.files import write_tensors
from edgekd.measure.graph_timing import INPUTS_FILE
from edgekd.metrics.caption_fit import normalise, side_by_side
from edgekd.progress import Silent
from edgekd.report.schema import read_report
from edgekd.search.blocks import Block
from edgekd.search.graphs import Graph, reference_graph

SUITE = {
    "name": "tiny",
    "generation": {"steps": 2, "guidance_scale": 1.0},
    "quality": {
        "samples": 4, "batch_size": 4, "workers": 1, "kid_subset_size": 2, "kid_subsets": 2,
    },
    "speed": {
        "warmup": 1, "component_runs": 2, "image_runs": 3, "busy_repeats": 0, "cold_starts": 0,
    },
    "pictures": 2,
}  # fmt: skip


class ToyExtractors:
    """Mean colour as features."""

    extractor, scorer, key = "toy-r1", "toy", "toy"

    def __call__(self, images, captions):
        features = images.mean(axis=(1, 2)).astype(np.float32)
        grey = np.ones((len(captions), 3), np.float32)
        return ShippedRows(features, side_by_side(normalise(features), normalise(grey)))


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """devices.yaml with two agents of one class, and one whose runtimes are the same."""
    folder = tmp_path_factory.mktemp("agents")
    file = folder / "devices.yaml"
    with (
        measuring_agent(folder / "a", "--class", "shelf", "--threads", "1") as one,
        measuring_agent(folder / "b", "--class", "shelf") as two,
    ):
        for name, agent in (("one", one), ("two", two)):
            add_entry(file, name, {"address": agent.address, "token": agent.token})
        yield file, one, two


def jobs(agent) -> int:
    text = agent.log_file.read_text(encoding="utf-8")
    return len(re.findall(r'"method": "PUT", "route": "/v1/jobs', text))


def test_rows_are_drawn_here_and_timed_there(listed, data, tmp_path):
    file, one, _ = listed
    cases = tuple(
        Case(role, role, "onnx", "fp32", write_export(tmp_path / role, slow), model=role)
        for role, slow in (("teacher", 3), ("student", 0))
    )
    suite = Suite.model_validate({**SUITE, "devices": ["one"]})

    def run(key):
        with DeviceChoice(("one",), file).open(Silent()) as devices:
            request = MatrixRequest(
                suite, cases, data, key, deploy=("onnx", "fp32"), devices=devices
            )
            report = benchmark(request, tmp_path / "report", Silent(), ToyExtractors())
            return report, devices[0].device.link.sent

    report, sent = run("first")
    assert sent > 0
    content = read_report(report.json_path)
    assert [row.name for row in content.rows] == [
        "teacher", "student", "teacher on one", "student on one",
    ]  # fmt: skip
    here, there = content.rows[1], content.rows[3]
    assert here.speed == {}
    assert len(there.speed["image"].samples_ms) == 3
    assert there.memory.peak_bytes > there.memory.baseline_bytes
    assert there.figures["fd"] == here.figures["fd"]
    assert content.metrics.rows.student == "student on one"
    assert content.metrics.ratios["latency_ms"] is not None
    assert any("teacher" in one.points for one in content.projections)
    (record,) = content.devices
    assert record.device_class == "shelf"
    assert record.environment.versions["onnxruntime"]
    page = report.html_path.read_text(encoding="utf-8")
    assert "On device one" in page
    assert page.count("<svg") >= 2
    before = jobs(one)
    assert run("second")[1] == 0  # another report of the same rows measures nothing
    assert jobs(one) == before


class Converter:
    """Takes graphs of an export for those that are asked for: what converts is not told here."""

    def __init__(self, folder):
        self.folder = folder
        self.source = write_export(folder / "source", slow=3)

    def convert(self, graph, folder):
        shutil.copytree(self.source / "unet", folder / graph.component)
        shape = {"sample": (1, 4, 8, 8), "encoder_hidden_states": (1, 4, 8), "timestep": (1,)}
        write_tensors(folder / INPUTS_FILE, {n: np.ones(s, np.float32) for n, s in shape.items()})
        return 1000

    def reference_folder(self):
        folder = self.folder / "reference"
        if not folder.exists():
            self.convert(reference_graph(), folder)
        return folder


def block(width: int) -> Graph:
    found = Block(
        kind="residual", inputs=width, outputs=width, condition=64, height=16, width=16, groups=8
    )
    return Graph(kind="block", block=found)


def test_two_devices_of_a_class_share_graphs(listed, tmp_path):
    file, one, two = listed
    graphs = [block(16 * width) for width in range(1, 7)]
    before = (jobs(one), jobs(two))
    settings = GraphSettings(
        runtime="onnx", precision="fp32", threads=1, seconds=0.05, batches=1, known_well=0.1
    )
    with DeviceChoice(("one", "two"), file).open(Silent()) as devices:
        assert device_conditions(devices, "onnx", "fp32", 1).device == "shelf"
        timer = DeviceTimer(devices, Converter(tmp_path), settings)
        found = []
        timer([reference_graph()], lambda _, one: found.append(one))
        timer.reference = found.pop()
        timer(graphs, lambda _, one: found.append(one))
        with pytest.raises(InputError, match="must run coreml"):
            device_conditions(devices, "coreml", "fp16", 1)
    made = (jobs(one) - before[0], jobs(two) - before[1])
    assert sum(made) == 3  # the reference and two pieces
    assert min(made) >= 1
    assert timer.reference.peak_bytes > timer.reference.baseline_bytes > 0
    assert [one.peak_bytes for one in found] == [0] * len(graphs)  # blocks: not measured
    # All are the reference's own graph: as fast as it, on whichever device.
    ratios = [one.latency_ms / timer.reference.latency_ms for one in found]
    assert 0.5 < min(ratios) <= max(ratios) < 2
    assert not list(tmp_path.glob("graph-*"))
