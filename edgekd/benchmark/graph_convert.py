"""Graphs with random weights, converted by a target's exporter: the half of measuring that needs
torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from edgekd.export.capture import Capture, capture
from edgekd.export.protocol import Conversion
from edgekd.export.record import Recording
from edgekd.export.registry import get_exporter
from edgekd.files import write_tensors
from edgekd.measure.graph_timing import INPUTS_FILE
from edgekd.search.graphs import Graph
from edgekd.search.modules import BuiltGraph, build

_CALIBRATION_CALLS = 2
_EXAMPLES = 2  # a Core ML package of a U-Net has two rows, whatever it is asked to compute


@dataclass(frozen=True)
class ConversionOrder:
    """A graph to convert into `folder`."""

    graph: Graph
    runtime: str
    precision: str
    folder: Path


def convert_graph(order: ConversionOrder) -> int:
    """Convert a graph with the target's exporter; returns the bytes of its files.

    Raises:
        InputError: the exporter does not know the precision, or cannot convert such a graph.
    """
    exporter = get_exporter(order.runtime)
    built = build(order.graph)
    captured = _captured(order.graph, built)
    part = order.folder / order.graph.component
    exporter.convert(Conversion(captured, part, _recordings(captured, built)), order.precision)
    arrays = {name: tensor.numpy() for name, tensor in built.inputs.items()}
    write_tensors(order.folder / INPUTS_FILE, arrays)
    files = [file for file in part.rglob("*") if file.is_file() and file.name != "config.json"]
    return sum(file.stat().st_size for file in files)


def _captured(graph: Graph, built: BuiltGraph) -> Capture:
    """As an export of a pipeline captures the part: with its names and its free axes."""
    if graph.block is None:
        return capture(_pipeline(graph, built.model), graph.component)
    image = {0: "batch_size", 2: "height", 3: "width"}
    axes = {"sample": image, "out_sample": image, "time": {0: "batch_size"}}
    axes["encoder_hidden_states"] = {0: "batch_size", 1: "sequence_length"}
    outputs = ("out_sample", "time") if graph.block.kind == "stem" else ("out_sample",)
    named = {name: axes[name] for name in (*built.inputs, *outputs) if name in axes}
    examples = {
        name: torch.cat([tensor] * _EXAMPLES)[:_EXAMPLES] if tensor.ndim else tensor
        for name, tensor in built.inputs.items()
    }
    return Capture(
        graph.component, built.model, examples, outputs,
        {name: axes for name, axes in named.items() if name != "timestep"}, {},
    )  # fmt: skip


@dataclass(frozen=True)
class _Tokenizer:
    model_max_length: int


@dataclass(frozen=True)
class _Size:
    """What a capture reads of the U-Net when it captures the decoder."""

    config: Any


class StablePipelineParts:
    """One model in a pipeline's place, with what a capture reads besides."""

    def __init__(self, graph: Graph, model: Any) -> None:
        self.tokenizer = self.tokenizer_2 = _Tokenizer(graph.tokens)
        self.unet: Any = _Size(SimpleNamespace(sample_size=graph.latent_size))
        attribute = "vae" if graph.kind == "vae_decoder" else graph.component
        setattr(self, attribute, model)


class StableDiffusionXLParts(StablePipelineParts):
    """The same of an XL pipeline, which captures know by the name of its class."""


def _pipeline(graph: Graph, model: Any) -> StablePipelineParts:
    return (StableDiffusionXLParts if graph.xl else StablePipelineParts)(graph, model)


def _recordings(captured: Capture, built: BuiltGraph) -> list[Recording]:
    """Calls on random inputs, for exporters that calibrate on them or look how large values get:
    times and sizes hang on no value."""
    with torch.inference_mode():
        results = captured.module(*built.inputs.values())
    inputs = {name: tensor.numpy() for name, tensor in built.inputs.items()}
    outputs = {name: tensor.numpy() for name, tensor in zip(captured.outputs, results, strict=True)}
    return [Recording(inputs, outputs, 500.0)] * _CALIBRATION_CALLS
