from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekd.errors import GateError
from edgekd.export.onnx.bits import ONNX_STORAGE, store_bits
from edgekd.export.onnx.pipeline import session_options

RNG = np.random.default_rng(0)


class Weights(nn.Module):
    def __init__(self, **values: Any) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(value)))


def graph(weight: Any, kind: str = "Gemm", **attributes: Any) -> Any:
    """x of kind's operator with one weight `onnx::w`, as a tracer would call it."""
    shape = [None] * 4 if kind == "Conv" else [None, None]
    inputs = ["onnx::w", "x"] if kind == "Gather" else ["x", "onnx::w"]
    x_type = TensorProto.INT64 if kind == "Gather" else TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(kind, inputs, ["y"], **attributes)],
            "unet",
            [helper.make_tensor_value_info("x", x_type, [None] if kind == "Gather" else shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weight, "onnx::w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    return model


def run(model: Any, x: Any) -> Any:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("columns", [8, 9, 11])  # whole bytes, and planes that need padding
def test_stored_weight_is_the_rounded_one_exactly(bits, columns):
    weight = RNG.normal(size=(7, columns)).astype(np.float32)
    model = graph(weight.T.copy(), "MatMul")
    facts = store_bits(model, Weights(w=weight), {"w": bits})
    assert facts["bits_by_tensor"] == {"w": bits}
    np.testing.assert_array_equal(
        run(model, np.eye(columns, dtype=np.float32)).T, ONNX_STORAGE.rounded(weight, bits)
    )


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_file_is_as_small_as_declared(bits):
    weight = RNG.normal(size=(64, 640)).astype(np.float32)
    model = graph(weight.T.copy(), "MatMul")
    store_bits(model, Weights(w=weight), {"w": bits})
    declared = ONNX_STORAGE.stored_bytes(weight.shape, bits)
    # Nodes and names of one weight.
    assert declared <= model.ByteSize() <= declared + 2_500


@pytest.mark.parametrize(
    ("kind", "shape", "attributes"),
    [("Conv", (6, 4, 3, 3), {}), ("Gemm", (6, 4), {"transB": 1}), ("Gather", (6, 4), {})],
)
def test_every_kind_of_operator(kind, shape, attributes):
    weight = RNG.normal(size=shape).astype(np.float32)
    x: Any = {
        "Conv": RNG.normal(size=(1, 4, 5, 5)).astype(np.float32),
        "Gemm": RNG.normal(size=(2, 4)).astype(np.float32),
        "Gather": np.array([5, 0, 3]),
    }[kind]
    model = graph(weight, kind, **attributes)
    store_bits(model, Weights(w=weight), {"w": 4})
    expected = run(graph(ONNX_STORAGE.rounded(weight, 4), kind, **attributes), x)
    np.testing.assert_array_equal(run(model, x), expected)


def test_nothing_is_restored_at_run_time(tmp_path):
    """The optimised graph that the session runs has the plain operator alone."""
    weight = RNG.normal(size=(6, 4, 3, 3)).astype(np.float32)
    model = graph(weight, "Conv")
    store_bits(model, Weights(w=weight), {"w": 6})
    assert len(model.graph.node) > 5
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    optimised = onnx.load(options.optimized_model_filepath)
    kinds = {node.op_type for node in optimised.graph.node}
    assert kinds <= {"Conv", "ReorderInput", "ReorderOutput"}


def test_fused_weight_fails():
    weight = RNG.normal(size=(6, 4)).astype(np.float32)
    fused = graph(np.concatenate([weight, weight]).T.copy(), "MatMul")
    with pytest.raises(GateError, match="converted unet must hold the weights"):
        store_bits(fused, Weights(w=weight), {"w": 4})
