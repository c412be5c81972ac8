"""Against `onnx`'s own writer."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.devices.onnx_files import check_locations, check_xml, locations
from edgekd.errors import InputError


def outside(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def branch(location: str) -> onnx.GraphProto:
    result = helper.make_tensor_value_info("c", TensorProto.FLOAT, [2, 2])
    node = helper.make_node("Constant", [], ["c"], value=outside("v", location))
    return helper.make_graph([node], "branch", [], [result], [outside("w", f"of-{location}")])


def model(*tensors: TensorProto, nodes=()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
    return helper.make_model(graph)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_tensors_are_found_wherever_they_are(path):
    """Initializers, attributes, graphs within nodes, functions and sparse tensors."""
    values, indices = outside("sv", "sparse"), outside("si", "places")
    sparse = onnx.SparseTensorProto(values=values, indices=indices)
    both = {"then_branch": branch("then"), "else_branch": branch("else")}
    nodes = [
        helper.make_node("If", ["x"], ["c"], **both),
        helper.make_node("Custom", [], ["y"], many=[outside("m", "many")]),
    ]
    made = model(outside("a", "first"), nodes=nodes)
    made.graph.sparse_initializer.append(sparse)
    inner = helper.make_node("Constant", [], ["z"], value=outside("f", "function"))
    made.functions.append(helper.make_function("d", "f", [], ["z"], [inner], []))
    made.training_info.add().initialization.CopyFrom(branch("training"))
    onnx.save(made, path)
    assert locations(path) == {
        *("first", "sparse", "places", "then", "of-then", "else", "of-else", "many", "function"),
        *("training", "of-training"),
    }


def test_a_model_with_its_weights_within_names_none(path):
    weights = numpy_helper.from_array(np.random.default_rng(0).random((64, 64)), "w")
    onnx.save(model(weights), path)
    assert locations(path) == set()
    check_locations(path)


def test_weights_beside_the_model_are_taken(path):
    onnx.save(model(outside("a", "model.onnx_data")), path)
    with pytest.raises(InputError, match="must lie in files beside it"):
        check_locations(path)
    (path.parent / "model.onnx_data").write_bytes(bytes(16))
    check_locations(path)


@pytest.mark.parametrize(
    "location",
    ["../../etc/passwd", "/etc/passwd", "x/../../y", "..", ".", "", "..\\y", "C:y", "sub/y.data"],
)
def test_weights_elsewhere_are_refused(path, location):
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "y.data").write_bytes(bytes(16))
    onnx.save(model(outside("a", location)), path)
    with pytest.raises(InputError, match="must lie in files beside it"):
        check_locations(path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip", b"\x80\x04\x95", b"\x3a\xff\xff\xff\x7f", b"\x0b" * 9]
)
def test_other_files_are_no_models(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="must be an ONNX model"):
        locations(path)


def test_openvinos_models_are_xml_and_nothing_else(path):
    """`read_model` opens the second as ONNX."""
    path = path.with_suffix(".xml")
    path.write_text('<?xml version="1.0"?><net/>')
    check_xml(path)
    for content in (model(outside("a", "../secret")).SerializeToString(), b"", b" <net/>"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"`model.xml` must be XML"):
            check_xml(path)


def test_no_reader_sees_a_field_that_is_not_looked_at(path):
    """protobuf in C++ keeps 32 bits of a field's number: this one's are those of `graph`."""
    graph = model(outside("a", "../secret")).graph.SerializeToString()
    hidden = bytes([0x3A | 0x80, 0x80, 0x80, 0x80, 0x70]) + _varint(len(graph)) + graph
    path.write_bytes(helper.make_model(onnx.GraphProto()).SerializeToString() + hidden)
    with pytest.raises(InputError, match="a field's number that is too large"):
        locations(path)


def test_depth_is_bounded(path):
    """Each level is a graph in an attribute of a node."""
    content = b""
    for _ in range(40):
        for field in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            content = field + _varint(len(content)) + content
    path.write_bytes(b"\x3a" + _varint(len(content)) + content)
    with pytest.raises(InputError, match="must be an ONNX model"):
        locations(path)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])
