"""One part of a pipeline as an ONNX model: trace, load, save."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper, shape_inference

from edgekd.export.capture import Capture
from edgekd.export.onnx_attention import DOMAIN, DOMAIN_VERSION, OPERATOR, fused_attention
from edgekd.export.onnx_pipeline import MODEL_FILE

EXTERNAL_DATA_FILE = "model.onnx_data"
# 17 is the first with LayerNormalization, and every runtime of the last years knows it.
OPSET = 17
PROTOBUF_LIMIT_BYTES = 2**31 - 2**20  # the graph itself needs some of the 2 GiB


def to_onnx(capture: Capture, scratch: Path) -> ModelProto:
    """Convert one part to an ONNX model in memory, weights included.

    The result depends on the part alone: nothing in it tells where or when it was made.

    Args:
        scratch: folder for temporary files; they can be as large as the part.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=scratch) as temporary:
        path = Path(temporary) / MODEL_FILE
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
                str(path),
                input_names=list(capture.example_inputs),
                output_names=list(capture.outputs),
                dynamic_axes=capture.dynamic_axes,
                opset_version=OPSET,
                custom_opsets={DOMAIN: DOMAIN_VERSION} if fused else {},
                dynamo=False,
            )
        model = onnx.load(path)
    model.doc_string = ""
    _strip_descriptions(model.graph)
    return model


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


def load_typed(path: Path) -> ModelProto:
    """Load a model with the type of every value, which quantizers and converters need.

    Types are inferred before the weights are read: protobuf could not hand over more than 2 GB.
    """
    model = onnx.load(path, load_external_data=False)
    # ONNX itself does not know this operator; it gives what its first input is.
    model.graph.value_info.extend(
        helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None, None, None])
        for node in model.graph.node
        if node.op_type == OPERATOR
    )
    model = shape_inference.infer_shapes(model)
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
