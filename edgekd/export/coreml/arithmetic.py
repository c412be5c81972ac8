"""How the precisions of the Core ML exporter compute, for a simulation in torch."""

from __future__ import annotations

from edgekd.export.arithmetic import Arithmetic, WeightRounding
from edgekd.export.coreml.bits import COREML_STORAGE

_KEPT = ("conv_in", "conv_out", "time_embedding", "add_embedding", "quant_conv")


def _stored(how: WeightRounding | None) -> Arithmetic:
    """Weights alone are rounded, and the inputs: a package is evaluated in float32."""
    return Arithmetic(
        stored="float16", conv=how, linear=how, embedding=how, kept=_KEPT, inputs="float16"
    )


def _palette(bits: int) -> WeightRounding:
    return WeightRounding(bits, rounded=COREML_STORAGE.rounded)


_ARITHMETIC = {
    "fp16": _stored(None),
    "fp16-ios18": _stored(None),
    "int8": _stored(WeightRounding(8)),
    "palette8": _stored(_palette(8)),
    "palette8-ios18": _stored(_palette(8)),
    "palette6": _stored(_palette(6)),
    "palette4": _stored(_palette(4)),
    "int4-ios18": _stored(WeightRounding(4, group=32)),
}


def arithmetic(precision: str, component: str) -> Arithmetic | None:
    """See `edgekd.export.simulate.Simulates`; mixtures, pruning and grouped tables are not."""
    del component
    return _ARITHMETIC.get(precision)
