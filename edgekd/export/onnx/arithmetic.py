"""How the precisions of the ONNX exporter compute, for a simulation in torch."""

from __future__ import annotations

from edgekd.export.onnx.int8_weights import INT8
from edgekd.export.onnx.matmul import BLOCK
from edgekd.export.simulate import Arithmetic, WeightRounding

_EIGHT, _SEVEN = WeightRounding(8), WeightRounding(7)
_STORED = Arithmetic(conv=_EIGHT, linear=_EIGHT, embedding=_EIGHT, kept=INT8.keep_float)
# Ranges of seven bits where products are computed in integers; see `onnx/int8.py`.
_EDGES = (*INT8.keep_float, "time_embedding", "add_embedding")


def _integers(conv: bool, linear: bool) -> Arithmetic:
    return Arithmetic(
        conv=_SEVEN if conv else _EIGHT,
        linear=_SEVEN if linear else _EIGHT,
        embedding=_EIGHT,
        activation_bits=8,
        activations=(*(("conv",) if conv else ()), *(("linear",) if linear else ())),
        kept=_EDGES,
        finest_float=True,
    )


def _blocks(bits: int) -> Arithmetic:
    return Arithmetic(
        conv=_EIGHT,
        linear=WeightRounding(bits, group=BLOCK),
        embedding=_EIGHT,
        kept=INT8.keep_float,
        finest_float=True,
    )


_UNET = {
    "int8-dynamic": _integers(conv=False, linear=True),
    "int8-static": _integers(conv=True, linear=False),
    "int8-mixed": _integers(conv=True, linear=True),
    "ort-int8": _integers(conv=True, linear=True),
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
