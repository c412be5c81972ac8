"""Weights in 2 to 8 bits inside an ONNX file, each in bits of its own, in plain ONNX operators.

A weight's integer codes are made positive and cut into planes of 4, 2 and 1 bits (6 bits: one plane
of 4 and one of 2); a plane is packed into bytes without a gap. The graph restores it with operators
of opset 17 on constants:

    plane  = Mod(BitShift(bytes, shifts), 2^width)          for each plane
    weight = (sum_p plane_p * 2^start_p - 2^(bits-1)) * scale

Every runtime folds constants once, when a session loads; from then on the model is as fast as its
float32 form. 8 bits are stored as `edgekd.export.onnx.int8_weights` stores them, in int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from edgekd.export.bits.mapping import LINEAR, ContentMap, stored_facts
from edgekd.export.bits.storage import LinearStorage, linear_codes
from edgekd.export.onnx.weights import channel_axes, replace_weights

_PLANE_WIDTHS = (4, 2, 1)

ONNX_STORAGE = LinearStorage(dict.fromkeys(("conv", "linear", "embedding"), (8, 6, 4)))


def store_bits(model: ModelProto, module: nn.Module, bits: Mapping[str, int]) -> dict[str, Any]:
    """Store weights of a converted model in few bits, in place.

    Args:
        module: the diffusers model that was converted.
        bits: torch tensor name -> bits, of this part.

    Returns:
        Facts for the manifest: bits of each tensor, and the share of all elements.

    Raises:
        GateError: the graph does not hold the weights, or one is not finite.
    """
    graph = model.graph
    axes = channel_axes(model)
    content = ContentMap(module, bits)
    kept: list[TensorProto] = []
    restore: list[NodeProto] = []
    found: list[npt.NDArray[np.float32]] = []
    by_tensor: dict[str, int] = {}
    total = quantized = 0
    for tensor in graph.initializer:
        total += int(np.prod(tensor.dims))
        weight = numpy_helper.to_array(tensor) if tensor.name in axes else None
        names = content.names(weight) if weight is not None else set()
        if weight is None or not names:
            kept.append(tensor)
            continue
        found.append(weight)
        count = content.find(weight)
        if count is None:
            kept.append(tensor)
            continue
        by_tensor |= dict.fromkeys(names, count)
        constants, nodes = _restored(tensor.name, weight, axes[tensor.name], count)
        kept += constants
        restore += nodes
        quantized += weight.size
    absent = content.missing(found, graph.name or "graph")
    replace_weights(graph, kept, restore)
    facts = stored_facts(by_tensor, quantized, total, absent)
    method = f"{LINEAR}, restored when a session loads"
    return {"method": method, "activations": "fp32", **facts}


def _restored(
    name: str, weight: npt.NDArray[np.float32], axis: int, bits: int
) -> tuple[list[TensorProto], list[NodeProto]]:
    """Constants and nodes whose last output is the weight, under its own name."""
    codes, scale = linear_codes(weight, bits, axis, name)
    graph = _Nodes(name)
    if bits == 8:
        whole = graph.node("Cast", graph.constant("int8", codes), to=TensorProto.FLOAT)
    else:
        positive = (codes.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8).reshape(-1)
        flat = _add_planes(graph, positive, bits)
        shape = graph.constant("shape", np.array(weight.shape, dtype=np.int64))
        middle = graph.constant("middle", np.float32(2 ** (bits - 1)))
        whole = graph.node("Sub", graph.node("Reshape", flat, shape), middle)
    graph.node("Mul", whole, graph.constant("scale", scale), output=name)
    return graph.constants, graph.nodes


def _add_planes(graph: _Nodes, codes: npt.NDArray[np.uint8], bits: int) -> str:
    """Codes [n] as packed planes; returns the name of their restored sum, float32 [n]."""
    parts = []
    start = 0
    for width in _PLANE_WIDTHS:
        while bits - start >= width:
            plane = _add_plane(graph, (codes >> start) & (2**width - 1), width, start)
            weight = graph.constant(f"weight{start}", np.float32(2**start))
            parts.append(graph.node("Mul", plane, weight) if start else plane)
            start += width
    whole = parts[0]
    for part in parts[1:]:
        whole = graph.node("Add", whole, part)
    return whole


def _add_plane(graph: _Nodes, values: npt.NDArray[np.uint8], width: int, start: int) -> str:
    """Values [n] below 2^width in packed bytes; returns their restored name, float32 [n]."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    padded = np.pad(values, (0, -values.size % len(shifts)))
    packed = np.bitwise_or.reduce(padded.reshape(-1, len(shifts)) << shifts, axis=1)
    shifted = graph.node(
        "BitShift",
        graph.constant(f"plane{start}", packed.astype(np.uint8).reshape(-1, 1)),
        graph.constant(f"shifts{start}", shifts.reshape(1, -1)),
        direction="RIGHT",
    )
    base = graph.constant(f"base{start}", np.uint8(2**width))
    low = graph.node("Mod", shifted, base)
    flat = graph.node(
        "Reshape",
        graph.node("Cast", low, to=TensorProto.FLOAT),
        graph.constant(f"flat{start}", np.array([-1], dtype=np.int64)),
    )
    if padded.size == values.size:
        return flat
    first = graph.constant(f"from{start}", np.array([0], dtype=np.int64))
    end = graph.constant(f"to{start}", np.array([values.size], dtype=np.int64))
    return graph.node("Slice", flat, first, end)


class _Nodes:
    """Collects the constants and nodes that restore one weight, under names of their own."""

    def __init__(self, weight: str) -> None:
        self._weight = weight
        self.constants: list[TensorProto] = []
        self.nodes: list[NodeProto] = []

    def constant(self, kind: str, value: Any) -> str:
        name = f"{self._weight}.{kind}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"restore/{self._weight}/{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output
