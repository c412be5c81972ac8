import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fixtures.graph_costs import LawfulDevice, one_by_one

from edgekd.benchmark import graph_cost
from edgekd.benchmark.graph_convert import ConversionOrder, convert_graph
from edgekd.benchmark.graph_cost import open_measure, summary
from edgekd.errors import InputError
from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.files import read_tensors
from edgekd.measure.graph_timing import INPUTS_FILE, Rounds, TimingOrder, time_graph
from edgekd.processes.child import Child
from edgekd.runtime.coreml_backend import CoreMlBackend
from edgekd.runtime.onnx_backend import OnnxBackend
from edgekd.runtime.options import RuntimeOptions
from edgekd.search.blocks import Block
from edgekd.search.candidate import Candidate
from edgekd.search.graphs import Graph, read_teacher_configs, reference_graph
from edgekd.search.measurements import MeasurementStore, StoredMeasure, conditions_here
from edgekd.search.modules import build
from edgekd.student.resolve import full

SIZES = {"height": 8, "width": 8, "groups": 8}
BLOCKS = {
    "residual": Block(kind="residual", inputs=16, outputs=32, condition=64, **SIZES),
    "transformer": Block(
        kind="transformer", inputs=32, outputs=32, condition=24, heads=4, depth=2, tokens=7, **SIZES
    ),
    "linear transformer": Block(
        kind="transformer", inputs=32, outputs=32, condition=24, heads=4, depth=1, tokens=7,
        linear=True, **SIZES,
    ),
    "downsampler": Block(kind="downsampler", inputs=16, outputs=16, **SIZES),
    "upsampler": Block(kind="upsampler", inputs=16, outputs=16, **SIZES),
    "stem": Block(kind="stem", inputs=4, outputs=16, condition=64, **SIZES),
    "head": Block(kind="head", inputs=16, outputs=4, **SIZES),
}  # fmt: skip


def block_graph(width: int, batch: int = 1) -> Graph:
    block = Block(
        kind="residual", inputs=width, outputs=width, condition=64, height=16, width=16, groups=8
    )
    return Graph(kind="block", block=block, batch=batch)


QUICK = Rounds(seconds=0, batches=1)


def converted(graph: Graph, folder, runtime="onnx", precision="fp32") -> int:
    folder.mkdir()
    return convert_graph(ConversionOrder(graph, runtime, precision, folder))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_converted_block_computes_what_its_module_does(tmp_path, name, batch):
    graph = Graph(kind="block", block=BLOCKS[name], batch=batch)
    size = converted(graph, tmp_path / "graph")
    assert size >= 4 * graph.block.sizes.parameters
    built = build(graph)
    with torch.inference_mode():
        wanted = built.model(*built.inputs.values())
    inputs = {name: tensor.numpy() for name, tensor in built.inputs.items()}
    found = OnnxBackend(tmp_path / "graph", RuntimeOptions(threads=1)).run("unet", inputs)
    for one, other in zip(wanted, found.values(), strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=2e-5)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_as_many_parameters_as_its_sizes_say(name):
    block = BLOCKS[name]
    model = build(Graph(kind="block", block=block)).model
    assert sum(one.numel() for one in model.parameters()) == block.sizes.parameters


@pytest.mark.parametrize(("runtime", "precision"), [("onnx", "int8-static"), ("openvino", "int8")])
def test_integer_precisions_are_converted_and_run(tmp_path, runtime, precision):
    graph = block_graph(32)
    exact = converted(graph, tmp_path / "exact", runtime)
    assert converted(graph, tmp_path / "graph", runtime, precision) < 0.6 * exact
    found = time_graph(
        TimingOrder("unet", tmp_path / "graph", tmp_path / "exact", runtime, precision, 1, QUICK)
    )
    assert min(found.graph_ms) > 0


def evaluated(folder, component: str, inputs):
    """A Core ML package's outputs, where Core ML does not run."""
    return CoreMlBackend(folder, PackageEvaluator).run(component, inputs)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_for_core_ml_computes_what_its_module_does(tmp_path, name):
    """Of one row, in a package of two."""
    graph = Graph(kind="block", block=BLOCKS[name])
    converted(graph, tmp_path / "graph", "coreml", "fp16")
    built = build(graph)
    with torch.inference_mode():
        wanted, *_ = built.model(*built.inputs.values())
    inputs = {name: tensor.numpy() for name, tensor in built.inputs.items()}
    (found,) = evaluated(tmp_path / "graph", "unet", inputs).values()
    np.testing.assert_allclose(wanted.numpy(), found, atol=5e-3)  # of fp16


def test_all_parts_of_a_pipeline_are_converted_for_core_ml(tmp_path, shallow_teacher):
    configs = read_teacher_configs(shallow_teacher, guided=False)
    candidate = Candidate(arch=full(configs.unet), decoder_width=0.5, steps=1, precision="fp16")
    graphs = [configs.unet_graph(candidate), configs.decoder_graph(0.5), *configs.text_graphs()]
    for graph in graphs:
        folder = tmp_path / graph.kind
        converted(graph, folder, "coreml", "palette6")
        inputs = {name: tensor.numpy() for name, tensor in build(graph).inputs.items()}
        for output in evaluated(folder, graph.component, inputs).values():
            assert len(output) == graph.batch == 1
            assert np.isfinite(output).all()


def test_all_parts_of_an_xl_pipeline_are_converted_and_run(tmp_path, shallow_sdxl_teacher):
    configs = read_teacher_configs(shallow_sdxl_teacher, guided=True)
    candidate = Candidate(arch=full(configs.unet), decoder_width=0.5, steps=1, precision="fp32")
    graphs = [configs.unet_graph(candidate), configs.decoder_graph(0.5), *configs.text_graphs()]
    assert [graph.batch for graph in graphs] == [2, 1, 1, 1]
    converted(block_graph(8), tmp_path / "reference")
    for graph in graphs:
        folder = tmp_path / graph.kind
        converted(graph, folder)
        order = TimingOrder(
            graph.component, folder, tmp_path / "reference", "onnx", "fp32", 1, QUICK
        )
        assert min(time_graph(order).graph_ms) > 0
    assert read_tensors(tmp_path / "unet" / INPUTS_FILE)["time_ids"].shape == (2, 6)


def test_graphs_are_timed_without_torch(tmp_path):
    converted(block_graph(8), tmp_path / "graph")
    order = TimingOrder("unet", tmp_path / "graph", tmp_path / "graph", "onnx", "fp32", 1, QUICK)
    with Child("time", 1) as child:
        child.call(time_graph, order)
        assert not child.call(eval, "'torch' in __import__('sys').modules")


def test_blocks_and_whole_parts_are_measured_and_kept(tmp_path, shallow_teacher, monkeypatch):
    configs = read_teacher_configs(shallow_teacher, guided=False)
    candidate = Candidate(arch=full(configs.unet), decoder_width=1, steps=1, precision="fp32")
    small, big = block_graph(16), block_graph(64)
    graphs = [small, big, configs.unet_graph(candidate), configs.decoder_graph(1)]
    with open_measure(tmp_path, "onnx", "fp32", 1, Rounds(0.1, 1)) as measure:
        first = measure(graphs)
    for found in first:
        assert found.latency_ms > 0
        assert found.cv < 1
        assert found.file_bytes > 1000
    assert first[0].latency_ms < first[1].latency_ms
    assert first[0].file_bytes < first[1].file_bytes
    assert [one.peak_bytes > one.baseline_bytes for one in first] == [False, False, True, True]
    assert len(list(tmp_path.glob("*.json"))) == len(graphs) + 1  # and the reference

    def refuse(*_, **__):
        pytest.fail("nothing was to be measured")

    monkeypatch.setattr(graph_cost, "Child", refuse)
    with open_measure(tmp_path, "onnx", "fp32", 1) as measure:
        assert measure(graphs) == first


@contextlib.contextmanager
def busy(processes: int):
    """Processes that do nothing but compute."""
    code = "while True: sum(range(10000))"
    hogs = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_the_ranking_holds_beside_a_cpu_hog(tmp_path):
    """Widths a quarter apart. Timed without a reference, and by the clock, a graph takes up to
    twice as long while the hogs have the core."""
    widths = (64, 48, 32)
    converted(reference_graph(), tmp_path / "reference")
    for width in widths:
        converted(block_graph(width), tmp_path / str(width))

    def ranked(child: Child) -> list[float]:
        found = []
        for width in widths:
            order = TimingOrder(
                "unet", tmp_path / str(width), tmp_path / "reference", "onnx", "fp32", 1
            )
            found.append(summary(child.call(time_graph, order), 0, 1.0).latency_ms)
        return found

    with Child("time", 1) as child:
        idle = ranked(child)
        with busy(os.cpu_count() or 1):
            found = ranked(child)
    assert idle == sorted(idle, reverse=True)
    assert found == sorted(found, reverse=True)


_MEASURE = """
import sys
from pathlib import Path
from edgekd.benchmark.graph_cost import open_measure
from edgekd.measure.graph_timing import Rounds
from edgekd.search.graphs import Graph
graphs = [Graph.model_validate_json(line) for line in sys.argv[2:]]
with open_measure(Path(sys.argv[1]), "onnx", "fp32", 1, Rounds(0, 1)) as measure:
    for graph in graphs:
        measure([graph])
"""


def test_a_killed_search_loses_the_measurement_that_it_was_at(tmp_path):
    graphs = [block_graph(8, batch) for batch in range(1, 200)]
    command = [sys.executable, "-c", _MEASURE, tmp_path, *(g.model_dump_json() for g in graphs)]
    victim = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        deadline = time.monotonic() + 300
        while len(list(tmp_path.glob("[!.]*.json"))) < 2:  # the reference and a graph
            assert victim.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    done = len(list(tmp_path.glob("[!.]*.json"))) - 1
    device = LawfulDevice()
    store = MeasurementStore(tmp_path, conditions_here("onnx", "fp32", 1))
    StoredMeasure(one_by_one(device), store)([reference_graph(), *graphs[: done + 1]])
    assert device.asked == [graphs[done]]


@pytest.mark.parametrize("runtime", ["coreml", "abacus"])
def test_a_runtime_that_does_not_execute_here_is_refused(tmp_path, runtime):
    if sys.platform == "darwin" and runtime == "coreml":
        runtime = "abacus"
    with (
        pytest.raises(InputError, match="executes here"),
        open_measure(tmp_path, runtime, "fp32", 1),
    ):
        pass
