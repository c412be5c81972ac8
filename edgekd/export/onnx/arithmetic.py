"""How the precisions of the ONNX exporter compute, for a simulation in torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.export.arithmetic import FINEST, Apart, Arithmetic, WeightRounding
from edgekd.export.bits.storage import Array
from edgekd.export.onnx.int8_weights import INT8
from edgekd.export.onnx.matmul import BLOCK


def _seven_bits(weight: Array, bits: int) -> Array:
    """As onnxruntime's tools restore a weight [O, ...] of a reduced range: codes from -64 to 64."""
    del bits
    rows = weight.reshape(len(weight), -1)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.maximum(largest / 64, np.finfo(np.float32).tiny).astype(np.float32)
    return np.asarray(np.rint(rows / scale) * scale, np.float32).reshape(weight.shape)


_EIGHT = WeightRounding(8, least=INT8.min_elements)
_SEVEN = WeightRounding(7, rounded=_seven_bits)
_STORED = Arithmetic(conv=_EIGHT, linear=_EIGHT, embedding=_EIGHT, kept=INT8.keep_float)
# Weights in a stage at the size of the latents stay floats where the file has torch's names for
# them: those of products of matrices with vectors, and of convolutions. See `onnx/int8.py`.
_FINE = (Apart(FINEST, kinds=("conv",)), Apart(rf"{FINEST}.*\.time_emb_proj"))
_EDGE_NAMES = rf"{FINEST}|\.time_embedding\.|\.add_embedding\."
_EDGES = (*_FINE, Apart(_EDGE_NAMES, _EIGHT))


def _integers(conv: bool, linear: bool) -> Arithmetic:
    return Arithmetic(
        conv=_SEVEN if conv else _EIGHT,
        linear=_SEVEN if linear else _EIGHT,
        embedding=_EIGHT,
        activation_bits=8,
        activations=("linear",) if linear else (),
        calibrated=("conv",) if conv else (),
        kept=INT8.keep_float,
        apart=_EDGES,
    )


def _blocks(bits: int) -> Arithmetic:
    fine = WeightRounding(8, group=BLOCK, symmetric=False)
    return Arithmetic(
        conv=_EIGHT,
        linear=WeightRounding(bits, group=BLOCK, symmetric=False),
        embedding=_EIGHT,
        kept=INT8.keep_float,
        apart=(
            *_FINE,
            Apart("time_emb", _EIGHT),
            Apart("add_embedding", _EIGHT),
            Apart(FINEST, fine),
        ),
    )


_UNET = {
    "int8-dynamic": _integers(conv=False, linear=True),
    "int8-static": _integers(conv=True, linear=False),
    "int8-mixed": _integers(conv=True, linear=True),
    "ort-int8": replace(
        _integers(conv=True, linear=True), embedding=None, apart=(Apart(_EDGE_NAMES),)
    ),
    "int8-matmul": _blocks(8),
    "int4-matmul": _blocks(4),
}
# Nothing but products in integers: weights stored for later would come out as floats.
_ORT_OTHER = Arithmetic(linear=_SEVEN, activation_bits=8, activations=("linear",))
_FLOATS = {
    "fp32": Arithmetic(),
    "ort-fp32": Arithmetic(),
    "fp16": Arithmetic(number="float16"),
}


def arithmetic(precision: str, component: str) -> Arithmetic | None:
    """See `edgekd.export.simulate.Simulates`."""
    if precision in _FLOATS:
        return _FLOATS[precision].of(component)
    if component == "unet":
        return _UNET.get(precision, _STORED)
    return _ORT_OTHER if precision == "ort-int8" else _STORED
