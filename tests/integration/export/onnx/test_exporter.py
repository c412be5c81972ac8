from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgekd.export.capture import Capture
from edgekd.export.onnx import graph as onnx_graph
from edgekd.export.onnx.exporter import OnnxExporter, OnnxRunner
from edgekd.export.onnx.graph import save_model, write_onnx
from edgekd.export.protocol import Conversion


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 32, 3, padding=1)
        self.linear = nn.Linear(32, 64)

    def forward(self, sample: Any) -> tuple[Any]:
        hidden = self.conv(sample).flatten(2).transpose(1, 2)
        return (self.linear(hidden),)


@pytest.fixture
def captured() -> Capture:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Small().eval().requires_grad_(False)
    return Capture(
        "unet",
        module,
        {"sample": torch.zeros(2, 4, 6, 6)},
        ("out",),
        {"sample": {0: "batch_size", 2: "height", 3: "width"}, "out": {0: "batch_size"}},
        {"sample_size": 6},
    )


def test_model_is_the_same_wherever_and_whenever_it_is_made(captured, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    paths = [tmp_path / name / "model.onnx" for name in ("here", "there")]
    for path in paths:
        write_onnx(captured, path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert list((tmp_path / "here").iterdir()) == [paths[0]]  # scratch files are gone
    for trace in (b".py", str(tmp_path).encode(), str(Path(torch.__file__).parent).encode()):
        assert trace not in first


def test_texts_with_machine_paths_are_removed_in_inner_graphs_too():
    inner = onnx.helper.make_graph([], "inner", [], [])
    inner.doc_string = "/home/me/model.py"
    node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    node.doc_string = "/home/me/model.py(3)"
    graph = onnx.helper.make_graph([node], "outer", [], [], doc_string="/home/me")
    onnx_graph._strip_descriptions(graph)
    assert b"/home/me" not in graph.SerializeToString()


def test_large_models_keep_their_weights_in_one_file_beside(captured, tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_onnx(captured, tmp_path / "one" / "model.onnx")
    monkeypatch.setattr(onnx_graph, "PROTOBUF_LIMIT_BYTES", 1000)
    save_model(onnx.load(tmp_path / "one" / "model.onnx"), tmp_path / "two" / "model.onnx")
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert names == [["model.onnx"], ["model.onnx", "model.onnx_data"]]
    sample = {"sample": np.ones((1, 4, 5, 7), np.float32)}
    first, second = (
        OnnxRunner(tmp_path / name / "model.onnx", 1)(sample)["out"] for name in ("one", "two")
    )
    np.testing.assert_array_equal(first, second)
    expected = captured.module(torch.from_numpy(sample["sample"]))[0]
    np.testing.assert_allclose(first, expected, atol=1e-6)


def test_weights_in_files_of_their_own_are_joined_without_loading_them(captured, tmp_path):
    """What torch writes for a model above 2 GB."""
    for name in ("one", "many", "joined"):
        (tmp_path / name).mkdir()
    write_onnx(captured, tmp_path / "one" / "model.onnx")
    onnx.save_model(
        onnx.load(tmp_path / "one" / "model.onnx"),
        tmp_path / "many" / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    assert len(list((tmp_path / "many").iterdir())) > 2
    model = onnx.load(tmp_path / "many" / "model.onnx", load_external_data=False)
    onnx_graph.join_weight_files(model, tmp_path / "many", tmp_path / "joined" / "model.onnx_data")
    onnx.save_model(model, tmp_path / "joined" / "model.onnx")
    assert sorted(file.name for file in (tmp_path / "many").iterdir()) == ["model.onnx"]
    whole, joined = (
        {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(tmp_path / name / "model.onnx").graph.initializer
        }
        for name in ("one", "joined")
    )
    assert list(joined) == list(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(joined[name], values)
    sample = {"sample": np.ones((1, 4, 6, 6), np.float32)}
    first, second = (
        OnnxRunner(tmp_path / name / "model.onnx", 1, thrifty=name == "joined")(sample)["out"]
        for name in ("one", "joined")
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_int8_from_a_finished_float_export_is_the_same(captured, tmp_path):
    onnx_exporter = OnnxExporter()
    onnx_exporter.convert(Conversion(captured, tmp_path / "fp32"), "fp32")
    onnx_exporter.convert(Conversion(captured, tmp_path / "direct"), "int8")
    onnx_exporter.convert(
        Conversion(captured, tmp_path / "derived", base=tmp_path / "fp32"), "int8"
    )
    files = [(tmp_path / name / "model.onnx").read_bytes() for name in ("direct", "derived")]
    assert files[0] == files[1]
    assert len(files[0]) < (tmp_path / "fp32" / "model.onnx").stat().st_size
    sample = {"sample": np.ones((1, 4, 6, 6), np.float32)}
    deployed, thrifty = (
        OnnxRunner(tmp_path / "direct" / "model.onnx", 1, thrifty=value)(sample)["out"]
        for value in (False, True)
    )
    np.testing.assert_allclose(thrifty, deployed, atol=1e-6)
