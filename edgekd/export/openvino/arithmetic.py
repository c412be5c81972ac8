"""How the precisions of the OpenVINO exporter compute, for a simulation in torch."""

from __future__ import annotations

from dataclasses import replace

from edgekd.export.arithmetic import Arithmetic, WeightRounding
from edgekd.export.openvino.pipeline import deployed_arithmetic as deployed_name
from edgekd.export.openvino.quantize import INT4_GROUP_SIZE, KEEP_FLOAT, KEEP_FLOAT_ACTIVATIONS
from edgekd.runtime.openvino_backend import EXACT

_EIGHT, _SEVEN = WeightRounding(8), WeightRounding(7)
_STORED = Arithmetic(conv=_EIGHT, linear=_EIGHT, embedding=_EIGHT, kept=KEEP_FLOAT)
_INT4 = replace(_STORED, linear=WeightRounding(4, group=INT4_GROUP_SIZE, symmetric=False))
_INTEGERS = Arithmetic(
    conv=_SEVEN,
    linear=_SEVEN,
    embedding=_EIGHT,
    activation_bits=8,
    activations=("conv", "linear"),
    kept=KEEP_FLOAT_ACTIVATIONS,
)
_HYBRID = Arithmetic(
    conv=_SEVEN,
    linear=_EIGHT,
    embedding=_EIGHT,
    activation_bits=8,
    activations=("conv",),
    kept=KEEP_FLOAT,
)
_OWN = {
    ("int4", "unet"): _INT4,
    ("int8_full", "unet"): _INTEGERS,
    ("int8_full", "vae_decoder"): _INTEGERS,
    ("hybrid", "unet"): _HYBRID,
}
_OTHER = {"fp32": Arithmetic(), "fp16": Arithmetic(stored="float16")}


def arithmetic(precision: str, component: str) -> Arithmetic | None:
    """See `edgekd.export.simulate.Simulates`."""
    found = _OWN.get((precision, component)) or _OTHER.get(precision, _STORED)
    return found.of(component)


def deployed_arithmetic(precision: str, component: str) -> Arithmetic | None:
    """The same in the numbers that the processor computes in."""
    plain = arithmetic(precision, component)
    if plain is None or precision == "fp32" or deployed_name() == EXACT:
        return plain
    return replace(plain, number="bfloat16")
