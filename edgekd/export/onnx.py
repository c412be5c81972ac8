"""ONNX for onnxruntime, in the layout that optimum's `ORTStableDiffusionPipeline` loads.

`<out>/{text_encoder,text_encoder_2,unet,vae_encoder,vae_decoder}/model.onnx`, each with its
`config.json`, beside `tokenizer/`, `scheduler/` and `model_index.json`. A model above 2 GB, the
limit of one protobuf message, keeps its weights in `model.onnx_data`.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnx import GraphProto, ModelProto

from edgekd.artifacts import ExportedPipeline, write_json
from edgekd.errors import InputError
from edgekd.export.assemble import export_pipeline
from edgekd.export.capture import Capture
from edgekd.export.onnx_pipeline import MODEL_FILE, PROVIDER, load_onnx_pipeline, session_options
from edgekd.export.protocol import ExportOptions, Floor
from edgekd.export.quantize import quantize_weights
from edgekd.export.record import Arrays, Recording
from edgekd.progress import Progress

# 17 is the first with LayerNormalization, and every runtime of the last years knows it.
OPSET = 17
EXTERNAL_DATA_FILE = "model.onnx_data"
PROTOBUF_LIMIT_BYTES = 2**31 - 2**20  # the graph itself needs some of the 2 GiB

# Floors, measured on the starter teacher (guidance 4, 8 and 25 steps).
_COMPONENT_FLOORS = {
    "fp32": Floor(80.0, "float32 sums in another order keep 110 dB and more"),
    "int8": Floor(
        30.0,
        "white noise 30 dB below every noise prediction leaves pictures of 24 to 32 dB PSNR, "
        "25 dB leaves other pictures; rounding weights to 8 bits keeps 38 dB and more",
    ),
}
_PICTURE_FLOORS = {
    "fp32": Floor(50.0, "the error stays below one grey level of 255, which is 48 dB"),
    "int8": Floor(20.0, "below it the same noise and prompt give a visibly different picture"),
}


class OnnxRunner:
    """One `model.onnx` in an onnxruntime session."""

    def __init__(self, model_path: Path, threads: int = 0) -> None:
        self._session = onnxruntime.InferenceSession(
            str(model_path), session_options(threads), providers=[PROVIDER]
        )
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.executed_by = f"onnxruntime {onnxruntime.__version__} {PROVIDER}"

    def __call__(self, inputs: Arrays) -> Arrays:
        values = self._session.run(None, inputs)
        return dict(zip(self.outputs, values, strict=True))


class OnnxExporter:
    """Exporter for onnxruntime. See `edgekd.export.protocol.Exporter`."""

    name = "onnx"
    precisions: tuple[str, ...] = ("fp32", "int8")
    # optimum's pipelines run diffusers' own scheduler classes.
    schedulers: tuple[str, ...] = (
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    )
    dynamic_shapes = True

    def export(
        self,
        pipeline_path: Path,
        out: Path,
        precision: str,
        parity_prompts: list[str],
        progress: Progress,
        options: ExportOptions | None = None,
    ) -> ExportedPipeline:
        """Export a diffusers pipeline folder; see `Exporter.export`."""
        return export_pipeline(
            self,
            pipeline_path,
            out,
            precision,
            parity_prompts,
            progress,
            options or ExportOptions(),
        )

    def load(self, path: Path, threads: int = 0) -> Any:
        return load_onnx_pipeline(path, threads)

    def convert(
        self,
        capture: Capture,
        folder: Path,
        precision: str,
        recordings: list[Recording],
        base: Path | None = None,
    ) -> dict[str, Any]:
        """Write `model.onnx` and `config.json` of one part."""
        del recordings  # weights alone are quantized: nothing to calibrate
        if precision not in self.precisions:
            raise InputError(
                f"the precision must be one of {', '.join(self.precisions)}", repr(precision)
            )
        folder.mkdir(parents=True, exist_ok=True)
        model = to_onnx(capture, folder) if base is None else onnx.load(base / MODEL_FILE)
        facts = {"quantization": quantize_weights(model)} if precision == "int8" else {}
        save_model(model, folder / MODEL_FILE)
        write_json(folder / "config.json", capture.config)
        return facts

    def open_component(self, exported_path: Path, component: str) -> OnnxRunner:
        return OnnxRunner(exported_path / component / MODEL_FILE, torch.get_num_threads())

    def component_floor(self, component: str, precision: str) -> Floor:
        del component  # the same for all
        return _COMPONENT_FLOORS[precision]

    def picture_floor(self, precision: str) -> Floor:
        return _PICTURE_FLOORS[precision]

    def facts(self) -> dict[str, Any]:
        return {
            "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
            "opset": OPSET,
            "session": {"graph_optimization": "all", "memory_pattern": True, "inter_op_threads": 1},
        }


def to_onnx(capture: Capture, scratch: Path) -> ModelProto:
    """Convert one part to an ONNX model in memory, weights included.

    The result depends on the part alone: nothing in it tells where or when it was made.

    Args:
        scratch: folder for temporary files; they can be as large as the part.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=scratch) as temporary:
        path = Path(temporary) / MODEL_FILE
        with warnings.catch_warnings(), torch.inference_mode():
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
