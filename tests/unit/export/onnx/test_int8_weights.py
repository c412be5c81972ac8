from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper, numpy_helper

from edgekd.errors import GateError
from edgekd.export.bits.storage import linear_codes
from edgekd.export.onnx.int8_weights import WeightRecipe, quantize_weights
from edgekd.export.onnx.pipeline import session_options

RNG = np.random.default_rng(0)
EVERYTHING = WeightRecipe(min_elements=1)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def _model(nodes: list[Any], inputs: dict[str, list[Any]], **weights: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == "ids" else TensorProto.FLOAT, shape
            )
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _run(model: Any, **inputs: Any) -> Any:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)[0]


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.floats(-9, 9, width=32),
    ),
    st.integers(0, 1),
)
def test_rounding_error_is_at_most_half_a_scale(weight, axis):
    codes, scale = linear_codes(weight, 8, axis)
    assert codes.shape == weight.shape
    assert scale.shape[axis] == weight.shape[axis]
    assert scale.size == weight.shape[axis]
    error = np.abs(codes * scale.astype(np.float64) - weight)
    assert (error <= scale * 0.5001 + 1e-30).all()


def test_each_channel_has_its_own_scale():
    weight = np.array([[127.0, -1.0], [0.0, 0.0], [1e-3, -0.127]], np.float32)
    codes, scale = linear_codes(weight, 8)
    np.testing.assert_array_equal(codes, [[127, -1], [0, 0], [1, -127]])
    np.testing.assert_allclose(scale[[0, 2], 0], [1, 1e-3], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_stops_the_export(bad):
    with pytest.raises(GateError, match=r"blocks\.3"):
        linear_codes(np.array([[1.0, bad]], np.float32), 8, 0, "blocks.3")


CONV = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
MATMUL = helper.make_node("MatMul", ["x", "w"], ["y"])
GEMM = helper.make_node("Gemm", ["x", "w"], ["y"])
GEMM_T = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
GATHER = helper.make_node("Gather", ["w", "ids"], ["y"])


def _scaled(shape: tuple[int, ...], axis: int) -> Any:
    """Channels of very different size: one scale for all would lose the small ones."""
    sizes = 10.0 ** -np.arange(shape[axis]).reshape(
        [-1 if i == axis else 1 for i in range(len(shape))]
    )
    return (RNG.standard_normal(shape) * sizes).astype(np.float32)


@pytest.mark.parametrize(
    ("node", "axis", "shape", "inputs", "channel"),
    [
        (CONV, 0, (4, 3, 3, 3), {"x": (1, 3, 5, 5)}, 1),
        (MATMUL, 1, (3, 4), {"x": (2, 3)}, 1),
        (GEMM, 1, (3, 4), {"x": (2, 3)}, 1),
        (GEMM_T, 0, (4, 3), {"x": (2, 3)}, 1),
        (GATHER, 0, (4, 3), {"ids": (4,)}, 0),
    ],
    ids=["conv", "matmul", "gemm", "gemm-transposed", "gather"],
)
def test_every_output_channel_keeps_its_precision(node, axis, shape, inputs, channel):
    weight = _scaled(shape, axis)
    model = _model([node], {name: list(size) for name, size in inputs.items()}, w=weight)
    feeds = {
        name: np.arange(4) if name == "ids" else RNG.standard_normal(size).astype(np.float32)
        for name, size in inputs.items()
    }
    reference = _run(model, **feeds)
    facts = quantize_weights(model, EVERYTHING)
    assert facts["tensors"] == 1
    assert facts["share"] == 1.0
    output = _run(model, **feeds)
    others = tuple(i for i in range(output.ndim) if i != channel)
    error = np.abs(output - reference).max(axis=others) / np.abs(reference).max(axis=others)
    assert (error > 0).any()
    assert error.max() < 0.02


def test_weights_are_restored_once_when_the_session_loads(tmp_path):
    model = _model([CONV], {"x": [1, 8, 5, 5]}, w=_scaled((16, 8, 3, 3), 0))
    quantize_weights(model, EVERYTHING)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Mul", "Conv"]
    options = session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    left = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert "Conv" in left
    assert not {"Cast", "Mul"} & set(left)


def test_file_shrinks_to_a_quarter():
    model = _model([MATMUL], {"x": [1, 256]}, w=_scaled((256, 256), 1).astype(np.float32))
    before = model.ByteSize()
    quantize_weights(model, EVERYTHING)
    assert model.ByteSize() < before * 0.27


def test_what_stays_float():
    nodes = [
        helper.make_node("Conv", ["x", "unet.conv_in.weight"], ["a"]),
        helper.make_node("Conv", ["a", "small"], ["b"]),
        helper.make_node("Mul", ["b", "norm"], ["c"]),
        # One use wants scales per column, the other per row.
        helper.make_node("MatMul", ["c", "shared"], ["d"]),
        helper.make_node("Gather", ["shared", "ids"], ["e"]),
        helper.make_node("Add", ["d", "e"], ["y"]),
    ]
    model = _model(
        nodes,
        {"x": [1, 64, 8, 64], "ids": [64]},
        **{
            "unet.conv_in.weight": _scaled((64, 64, 1, 1), 0),
            "small": _scaled((8, 8, 1, 1), 0),
            "norm": np.ones((64, 64), np.float32),
            "shared": _scaled((64, 64), 0),
        },
    )
    before = model.SerializeToString(deterministic=True)
    assert quantize_weights(model)["tensors"] == 0
    assert model.SerializeToString(deterministic=True) == before
