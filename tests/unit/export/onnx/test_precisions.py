"""Every precision's graph, on models small enough to write down."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.errors import InputError
from edgekd.export.onnx import mobile as onnx_mobile
from edgekd.export.onnx.exporter import OnnxRunner
from edgekd.export.onnx.graph import EXTERNAL_DATA_FILE
from edgekd.export.onnx.half import to_half
from edgekd.export.onnx.int8 import finest_stage, quantize_arithmetic
from edgekd.export.onnx.matmul import quantize_matmul_weights
from edgekd.export.onnx.mobile import to_ort_format
from edgekd.export.onnx.pipeline import MODEL_FILE
from edgekd.export.parity import snr_db
from edgekd.export.record import Recording

INNER = 40  # not a multiple of the block of 32


def _node(kind: str, inputs: list[str], name: str, **options: Any) -> Any:
    return helper.make_node(kind, inputs, [name], name=f"/unet/{name}", **options)


@pytest.fixture
def source(tmp_path) -> Path:
    """A convolution and a product in the finest stage (down 0, up 1), the same below (down 1)."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "sample"
    for stage in ("down_blocks.0", "down_blocks.1", "up_blocks.1"):
        conv, product = f"{stage}/conv/Conv", f"{stage}/to_q/MatMul"
        channels = 4 if last == "sample" else INNER
        weights[f"unet.{stage}.conv.weight"] = rng.standard_normal((INNER, channels, 3, 3)) / 20
        weights[f"unet.{stage}.to_q.weight"] = rng.standard_normal((INNER, INNER)) / 6
        nodes += [
            _node("Conv", [last, f"unet.{stage}.conv.weight"], conv, pads=[1] * 4),
            _node("Transpose", [conv], f"{stage}/t", perm=[0, 2, 3, 1]),
            _node("MatMul", [f"{stage}/t", f"unet.{stage}.to_q.weight"], product),
            _node("Transpose", [product], f"{stage}/out", perm=[0, 3, 1, 2]),
        ]
        last = f"{stage}/out"
    nodes.append(helper.make_node("Identity", [last], ["out_sample"], name="/unet/end"))
    return _save(tmp_path / "model.onnx", nodes, weights)


def _save(path: Path, nodes: list[Any], weights: dict[str, Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info("sample", TensorProto.FLOAT, ["b", 4, "h", "w"])],
        [helper.make_tensor_value_info("out_sample", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture
def recordings(source) -> list[Recording]:
    rng = np.random.default_rng(1)
    runner = OnnxRunner(source, 1)
    samples = [rng.standard_normal((2, 4, 6, 6), np.float32) for _ in range(2)]
    return [Recording({"sample": item}, runner({"sample": item})) for item in samples]


def _worst(model: Any, recordings: list[Recording], folder: Path) -> float:
    onnx.save(model, folder / "changed.onnx")
    runner = OnnxRunner(folder / "changed.onnx", 1)
    return min(
        snr_db(item.outputs["out_sample"], runner(item.inputs)["out_sample"]) for item in recordings
    )


def _kinds(model: Any) -> dict[str, str]:
    return {node.name: node.op_type for node in model.graph.node}


def test_finest_stage_is_the_first_down_and_the_last_up_block(source):
    assert finest_stage(onnx.load(source)) == ("down_blocks.0", "up_blocks.1")


def test_static_convolutions_below_the_finest_stage(source, recordings, tmp_path):
    model, facts = quantize_arithmetic(source, recordings, tmp_path, static=True)
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    inputs = {
        node.name: producers.get(node.input[0])
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    assert inputs == {
        "/unet/down_blocks.0/conv/Conv": None,
        "/unet/down_blocks.1/conv/Conv": "DequantizeLinear",
        "/unet/up_blocks.1/conv/Conv": "Transpose",
    }
    _has_seven_bits(model, "unet.down_blocks.1.conv.weight_quantized")
    assert facts["operators"] == ("Conv",)
    assert 30 < _worst(model, recordings, tmp_path) < 100


def test_dynamic_products_below_the_finest_stage(source, recordings, tmp_path):
    model, _ = quantize_arithmetic(source, recordings, tmp_path, dynamic=True)
    kinds = list(_kinds(model).values())
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul")) == (1, 2)
    _has_seven_bits(model, "unet.down_blocks.1.to_q.weight_quantized")
    assert 30 < _worst(model, recordings, tmp_path) < 100


def _has_seven_bits(model: Any, name: str) -> None:
    """More saturate where products are summed in 16 bits: 2 * 255 * 64 still fits."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    codes = tensors[name]
    assert codes.dtype == np.int8
    assert 60 <= np.abs(codes.astype(int)).max() <= 64


def test_four_bits_but_eight_in_the_finest_stage(source, recordings, tmp_path):
    snr = {}
    for bits in (4, 8):
        model, facts = quantize_matmul_weights(source, bits)
        found = {
            node.name.split("/")[2]: {item.name: item.i for item in node.attribute}["bits"]
            for node in model.graph.node
            if node.op_type == "MatMulNBits"
        }
        assert found == {"down_blocks.0": 8, "down_blocks.1": bits, "up_blocks.1": 8}
        assert (facts["products"], facts["products_at_8_bits"]) == (3, 2 + (bits == 8))
        snr[bits] = _worst(model, recordings, tmp_path)
    assert 18 < snr[4] < 30 < snr[8] < 100


def test_half_keeps_inputs_and_outputs_and_wide_values_in_float32(tmp_path, recordings):
    weights = {"a": np.full((4, 4, 1, 1), 1e5), "b": np.full((4, 4, 1, 1), 1e-4)}
    nodes = [
        _node("Conv", ["sample", "b"], "small"),
        _node("Conv", ["sample", "a"], "wide"),
        _node("Conv", ["wide", "b"], "narrow"),
        helper.make_node("Add", ["small", "narrow"], ["out_sample"], name="/unet/end"),
    ]
    path = _save(tmp_path / "wide.onnx", nodes, weights)
    runner = OnnxRunner(path, 1)
    calls = [Recording(item.inputs, runner(item.inputs)) for item in recordings]
    model, facts = to_half(path, calls, tmp_path)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    convolutions = {node.name: node for node in model.graph.node if node.op_type == "Conv"}

    def weight_type(name):
        weight = convolutions[name].input[1]
        if weight in producers:  # float16 weights, brought back for a float32 node
            return next(item.i for item in producers[weight].attribute if item.name == "to")
        return types[weight]

    assert weight_type("/unet/small") == TensorProto.FLOAT16
    assert weight_type("/unet/wide") == TensorProto.FLOAT
    assert facts["nodes_beyond_range"] == 2
    ends = (*model.graph.input, *model.graph.output)
    assert {item.type.tensor_type.elem_type for item in ends} == {TensorProto.FLOAT}
    assert _worst(model, calls, tmp_path) > 40  # infinities would give NaN


def test_half_of_weights_in_a_file_of_their_own(source, recordings, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    onnx.save_model(onnx.load(source), tmp_path / "one" / MODEL_FILE)
    onnx.save_model(
        onnx.load(source),
        tmp_path / "two" / MODEL_FILE,
        save_as_external_data=True,
        location=EXTERNAL_DATA_FILE,
        size_threshold=0,
    )
    one, two = (
        to_half(tmp_path / name / MODEL_FILE, recordings, tmp_path)[0] for name in ("one", "two")
    )
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    assert TensorProto.FLOAT16 in {tensor.data_type for tensor in two.graph.initializer}


def test_ort_format_runs_and_refuses_what_does_not_fit(source, recordings, tmp_path, monkeypatch):
    to_ort_format(source, tmp_path / "model.ort")
    assert (tmp_path / "model.ort").read_bytes()[4:8] == b"ORTM"
    output = OnnxRunner(tmp_path / "model.ort", 1)(recordings[0].inputs)["out_sample"]
    assert snr_db(recordings[0].outputs["out_sample"], output) > 100
    monkeypatch.setattr(onnx_mobile, "PROTOBUF_LIMIT_BYTES", 1000)
    with pytest.raises(InputError, match="ORT format"):
        to_ort_format(source, tmp_path / "again.ort")
