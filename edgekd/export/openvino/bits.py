"""Weights of an OpenVINO model in 8 or 4 bits, each in bits of its own.

A weight is an i8 or i4 constant, converted to float and multiplied by one float32 scale per output
channel: the form that nncf writes and that OpenVINO's plugins know. nncf itself chooses bits by
kind of layer and by rules of its own (a convolution is never below 8); a recipe is to be obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from edgekd.export.bits.mapping import LINEAR, ContentMap, stored_facts
from edgekd.export.bits.storage import LinearStorage, linear_codes
from edgekd.export.openvino.libraries import openvino

OPENVINO_STORAGE = LinearStorage({"conv": (8, 4), "linear": (8, 4), "embedding": (8,)})


def store_bits(model: Any, module: nn.Module, bits: Mapping[str, int]) -> dict[str, Any]:
    """Store weights of a converted model in few bits, in place; see `edgekd.export.onnx.bits`."""
    content = ContentMap(module, bits)
    found = []
    by_tensor: dict[str, int] = {}
    total = quantized = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        weight = node.data
        total += weight.size
        names = content.names(weight) if weight.ndim >= 2 else set()
        axis = _output_axis(node, weight.ndim) if names else None
        if axis is None:
            continue
        found.append(weight)
        count = content.find(weight)
        if count is not None:
            by_tensor |= dict.fromkeys(names, count)
            quantized += weight.size
            _replace(node, *linear_codes(weight, count, axis, node.get_friendly_name()), count)
    absent = content.missing(found, "model")
    model.validate_nodes_and_infer_types()
    facts = stored_facts(by_tensor, quantized, total, absent)
    return {"method": LINEAR, "activations": "fp", **facts}


def _output_axis(node: Any, rank: int) -> int | None:
    """Axis of output channels, if all users of a constant take it as a weight, alike."""
    axes = {_axis_in(port, rank) for port in node.output(0).get_target_inputs()}
    return axes.pop() if len(axes) == 1 else None


def _axis_in(port: Any, rank: int) -> int | None:
    user, position = port.get_node(), port.get_index()
    kind = user.get_type_name()
    if kind == "MatMul" and position == 1:
        return 0 if user.get_attributes()["transpose_b"] else rank - 1
    return {("Convolution", 1): 0, ("Gather", 0): 0}.get((kind, position))


def _replace(node: Any, codes: Any, scale: Any, bits: int) -> None:
    """Put codes, conversion and scale in place of a float constant."""
    opset = openvino.opset13
    kind = openvino.Type.i8 if bits == 8 else openvino.Type.i4
    stored = opset.constant(codes, dtype=kind)
    users = node.output(0).get_target_inputs()
    name = node.get_friendly_name()
    stored.set_friendly_name(f"{name}/int{bits}")
    whole = opset.convert(stored, openvino.Type.f32, name=f"{name}/convert")
    scales = opset.constant(np.ascontiguousarray(scale), name=f"{name}/scale")
    restored = opset.multiply(whole, scales, name=f"{name}/restored")
    for user in users:
        user.replace_source_output(restored.output(0))
