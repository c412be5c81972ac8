"""One part of a pipeline as an ONNX model: trace, load, save."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper, shape_inference
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgekd.export.capture import Capture
from edgekd.export.onnx.attention import DOMAIN, DOMAIN_VERSION, OPERATOR, fused_attention
from edgekd.export.onnx.pipeline import MODEL_FILE

EXTERNAL_DATA_FILE = "model.onnx_data"
# 17 is the first with LayerNormalization, and every runtime of the last years knows it.
OPSET = 17
PAGE_BYTES = 4096  # weights start at multiples of it, so that runtimes can map them
PROTOBUF_LIMIT_BYTES = 2**31 - 2**20  # the graph itself needs some of the 2 GiB


def write_onnx(capture: Capture, path: Path) -> None:
    """Convert one part to an ONNX file; a large part's weights are in a second file beside it.

    The result depends on the part alone: nothing in it tells where or when it was made. Weights
    that torch has written to files of their own go from file to file, and not through memory,
    where torch has them still.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as temporary:
        traced = Path(temporary) / MODEL_FILE
        with (
            warnings.catch_warnings(),
            torch.inference_mode(),
            fused_attention(capture.module) as fused,
        ):
            # The tracer warns of every shape check in diffusers; the contract tests run other
            # batch and picture sizes.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                capture.module,
                tuple(capture.example_inputs.values()),
                str(traced),
                input_names=list(capture.example_inputs),
                output_names=list(capture.outputs),
                dynamic_axes=capture.dynamic_axes,
                opset_version=OPSET,
                custom_opsets={DOMAIN: DOMAIN_VERSION} if fused else {},
                dynamo=False,
            )
        model = onnx.load(traced, load_external_data=False)
        join_weight_files(model, traced.parent, path.parent / EXTERNAL_DATA_FILE)
    model.doc_string = ""
    _strip_descriptions(model.graph)
    onnx.save_model(model, path)


def join_weight_files(model: ModelProto, folder: Path, joined: Path) -> None:
    """Move the weights that a model has in files of `folder` into the one file `joined`.

    The model, whose weights are not loaded, refers to that file afterwards. Without such weights
    there is no file.
    """
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    if not outside:
        return
    with joined.open("wb") as target:
        for tensor in outside:
            place = ExternalDataInfo(tensor)
            target.write(bytes(-target.tell() % PAGE_BYTES))
            offset = target.tell()
            with (folder / place.location).open("rb") as source:
                source.seek(place.offset or 0)
                shutil.copyfileobj(source, target, 1 << 20)
            (folder / place.location).unlink()
            _refer(tensor, joined.name, offset, target.tell() - offset)


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    facts = {"location": location, "offset": offset, "length": length}
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=str(value))


def _strip_descriptions(graph: GraphProto) -> None:
    """Remove texts that carry stack traces with paths of the machine."""
    graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            for inner in (
                (attribute.g, *attribute.graphs)
                if attribute.type
                in (
                    onnx.AttributeProto.GRAPH,
                    onnx.AttributeProto.GRAPHS,
                )
                else ()
            ):
                _strip_descriptions(inner)


def load_typed(path: Path, weights: bool = True) -> ModelProto:
    """Load a model with the type of every value, which quantizers and converters need.

    Types are inferred before the weights are read: protobuf could not hand over more than 2 GB.

    Args:
        weights: read those that are in a second file too.
    """
    model = onnx.load(path, load_external_data=False)
    # ONNX itself does not know this operator; it gives what its first input is.
    model.graph.value_info.extend(
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None, None, None])
        for node in model.graph.node
        if node.op_type == OPERATOR
    )
    model = shape_inference.infer_shapes(model)
    if weights:
        onnx.load_external_data_for_model(model, str(path.parent))
    return model


def save_model(model: ModelProto, path: Path) -> None:
    """Write a model as one file, or as two where its weights pass protobuf's limit."""
    weights_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights_bytes < PROTOBUF_LIMIT_BYTES:
        onnx.save_model(model, path)
        return
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=EXTERNAL_DATA_FILE,
    )


def copy_model(source: Path, target: Path) -> None:
    """Put the files of a model into another folder too.

    As copies: onnx refuses to read weights whose file has another hard link.
    """
    for name in (MODEL_FILE, EXTERNAL_DATA_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
