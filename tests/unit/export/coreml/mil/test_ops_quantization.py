"""Quantized activations against torch, through saved packages."""

import math

import numpy as np
import pytest
import torch
from mil_cases import Case, case_id, check, draw, kinds, run
from torch import Tensor

from edgekd.errors import GateError
from edgekd.export.coreml.mil import ops_quantization

Q = np.float32([0.02, 0.05, 0.1])


def levels(x: Tensor, zero_point: int, low: int, high: int) -> Tensor:
    """Integers that stand for x at a scale of 0.03."""
    rounded = torch.fake_quantize_per_tensor_affine(x, 0.03, zero_point, low, high)
    return (rounded / 0.03 + zero_point).round().int()


CASES = [
    Case(
        "quantize",
        lambda mb, x: mb.cast(
            x=mb.quantize(input=x, scale=np.float32(0.03), output_dtype="int8"), dtype="int32"
        ),
        lambda x: levels(x, 0, -128, 127),
        (draw(4, 50) * 3,),
        label="int8",
    ),
    Case(
        "quantize",
        lambda mb, x: mb.cast(
            x=mb.quantize(
                input=x, scale=np.float32(0.03), zero_point=np.uint8(120), output_dtype="uint8"
            ),
            dtype="int32",
        ),
        lambda x: levels(x, 120, 0, 255),
        (draw(4, 50) * 3,),
        label="uint8",
    ),
    Case(
        "dequantize",
        lambda mb, x: mb.dequantize(
            input=mb.quantize(
                input=x, scale=Q, zero_point=np.int8([0, 3, -5]), axis=1, output_dtype="int8"
            ),
            scale=Q,
            zero_point=np.int8([0, 3, -5]),
            axis=1,
        ),
        lambda x: torch.fake_quantize_per_channel_affine(
            x, torch.tensor(Q), torch.tensor([0, 3, -5], dtype=torch.int32), 1, -128, 127
        ),
        (draw(2, 3, 40) * 3,),
        label="per channel",
    ),
    Case(
        "dequantize",
        lambda mb, x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.05), output_dtype="int8"),
            scale=np.float32(0.05),
        ),
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127),
        (draw(2, 3, 40) * 3,),
        label="per tensor",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_quantization)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_quantized_activations_must_be_finite(save_package, value):
    def build(mb, x):
        levels = mb.quantize(input=x, scale=np.float32(0.1), output_dtype="int8")
        return mb.dequantize(input=levels, scale=np.float32(0.1))

    with pytest.raises(GateError, match="quantized activations must be finite"):
        run(save_package, build, torch.tensor([0.0, value]))
