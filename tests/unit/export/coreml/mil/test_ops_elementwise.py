"""Elementwise operations against torch, through saved packages."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mil_cases import Case, binary, case_id, check, draw, kinds, run, whole, with_x
from torch import Tensor

from edgekd.errors import GateError
from edgekd.export.coreml.mil import ops_elementwise


def unary(kind: str, reference: Callable[[Tensor], Tensor], x: Tensor | None = None) -> Case:
    x = draw(2, 3, 4) * 2 if x is None else x
    return Case(kind, lambda mb, x: getattr(mb, kind)(x=x), reference, (x,))


def comparison(kind: str, reference: Callable[[Tensor, Tensor], Tensor]) -> Case:
    return Case(
        kind,
        lambda mb, x, y: mb.cast(x=getattr(mb, kind)(x=x, y=y), dtype="int32"),
        lambda x, y: reference(x, y).int(),
        (whole(4, 5, high=3), whole(4, 5, high=3, seed=1)),
    )


def logical(kind: str, reference: Callable[[Tensor, Tensor], Tensor]) -> Case:
    def build(mb: Any, x: Any, y: Any) -> Any:
        x, y = mb.cast(x=x, dtype="bool"), mb.cast(x=y, dtype="bool")
        return mb.cast(x=getattr(mb, kind)(x=x, y=y), dtype="int32")

    inputs = (whole(4, 5, high=2), whole(4, 5, high=2, seed=1))
    return Case(kind, build, lambda x, y: reference(x, y).int(), inputs)


CASES = [
    binary("add", torch.add),
    binary("add", torch.add, whole(3, 4), whole(4, seed=1)),
    binary("sub", torch.sub),
    binary("mul", torch.mul),
    binary("real_div", torch.div),
    binary("floor_div", torch.floor_divide),
    binary("floor_div", torch.floor_divide, whole(9) - 4, whole(9, seed=1) + 1),
    binary("mod", torch.remainder),
    binary("pow", torch.pow, draw(2, 3, positive=True), draw(3, seed=1)),
    binary("maximum", torch.maximum),
    binary("minimum", torch.minimum),
    comparison("equal", torch.eq),
    comparison("not_equal", torch.ne),
    comparison("greater", torch.gt),
    comparison("greater_equal", torch.ge),
    comparison("less", torch.lt),
    comparison("less_equal", torch.le),
    logical("logical_and", torch.logical_and),
    logical("logical_or", torch.logical_or),
    logical("logical_xor", torch.logical_xor),
    Case(
        "logical_not",
        lambda mb, x: mb.cast(x=mb.logical_not(x=mb.cast(x=x, dtype="bool")), dtype="int32"),
        lambda x: torch.logical_not(x).int(),
        (whole(7, high=2),),
    ),
    unary("abs", torch.abs),
    unary("ceil", torch.ceil),
    unary("cos", torch.cos),
    unary("erf", torch.erf),
    unary("exp", torch.exp),
    unary("exp2", torch.exp2),
    unary("floor", torch.floor),
    unary("identity", lambda x: x),
    unary("relu", torch.relu),
    unary("relu6", F.relu6, draw(20) * 9),
    unary("round", torch.round, torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.4])),
    unary("sigmoid", torch.sigmoid),
    unary("sign", torch.sign),
    unary("silu", F.silu),
    unary("sin", torch.sin),
    unary("softplus", F.softplus),
    unary("softsign", F.softsign),
    unary("sqrt", torch.sqrt, draw(9, positive=True)),
    unary("square", torch.square),
    unary("tan", torch.tan),
    unary("tanh", torch.tanh),
    unary("rsqrt", torch.rsqrt, draw(9, positive=True)),
    with_x("rsqrt", lambda x: 1 / (x + 0.5).sqrt(), draw(9, positive=True), epsilon=0.5),
    unary("inverse", lambda x: 1 / (x + 1e-4), draw(9, positive=True)),
    with_x("inverse", lambda x: 1 / (x + 0.5), draw(9, positive=True), epsilon=0.5),
    unary("log", torch.log, draw(9, positive=True)),
    with_x("log", lambda x: (x + 0.5).log(), draw(9, positive=True), epsilon=0.5),
    with_x("clip", lambda x: x.clamp(-0.5, 0.25), alpha=-0.5, beta=0.25),
    with_x("threshold", lambda x: x.clamp(min=0.25), alpha=0.25),
    with_x("leaky_relu", lambda x: F.leaky_relu(x, 0.2), alpha=0.2),
    with_x("elu", lambda x: F.elu(x, 0.7), alpha=0.7),
    with_x(
        "prelu",
        lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4])),
        draw(2, 4, 3, 2),
        alpha=np.float32([0.1, 0.2, 0.3, 0.4]),
    ),
    with_x(
        "clamped_relu", lambda x: torch.where(x >= 0, x, 0.2 * x).clamp(max=1), alpha=0.2, beta=1.0
    ),
    with_x("linear_activation", lambda x: 0.5 * x + 2, alpha=0.5, beta=2.0),
    with_x("scaled_tanh", lambda x: 2 * torch.tanh(0.5 * x), alpha=2.0, beta=0.5),
    with_x("sigmoid_hard", lambda x: (0.3 * x + 0.5).clamp(0, 1), alpha=0.3, beta=0.5),
    with_x("thresholded_relu", lambda x: torch.where(x >= 0.3, x, 0.0), alpha=0.3),
    unary("gelu", F.gelu),
    with_x("gelu", F.gelu, mode="EXACT"),
    with_x("gelu", lambda x: F.gelu(x, approximate="tanh"), mode="TANH_APPROXIMATION"),
    # CLIP's "quick GELU".
    with_x("gelu", lambda x: x * torch.sigmoid(1.702 * x), mode="SIGMOID_APPROXIMATION"),
    unary("softmax", lambda x: x.softmax(-1)),
    with_x("softmax", lambda x: x.softmax(1), axis=1),
    with_x("softmax", lambda x: x.softmax(-2), axis=-2),
    with_x("cast", lambda x: x.to(torch.int32), draw(20) * 5, dtype="int32"),
    with_x("cast", lambda x: x.float(), whole(5), dtype="fp32"),
    Case(
        "cast",
        lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"),
        lambda x: x.half().float(),
        (draw(20) * 1e5,),
        label="fp16 rounds, and overflows",
    ),
    Case(
        "select",
        lambda mb, x, y: mb.select(cond=mb.greater(x=x, y=y), a=x, b=y),
        lambda x, y: torch.where(x > y, x, y),
        (draw(2, 3), draw(2, 3, seed=1)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_elementwise)


def test_unknown_operation_is_refused(save_package):
    with pytest.raises(GateError, match="known to the evaluator, but got operation atanh"):
        run(save_package, lambda mb, x: mb.atanh(x=x), draw(3))


def test_integer_division_is_refused(save_package):
    with pytest.raises(GateError, match=r"operation real_div .*integer arguments"):
        run(save_package, lambda mb, x, y: mb.real_div(x=x, y=y), whole(3), whole(3) + 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e9, -3e9])
def test_cast_to_integer_must_fit(save_package, value):
    with pytest.raises(GateError, match="a value cast to int32 must fit"):
        run(save_package, lambda mb, x: mb.cast(x=x, dtype="int32"), torch.tensor([0.0, value]))


@pytest.mark.parametrize("kind", ["relu", "thresholded_relu", "clip", "max_pool", "reduce_max"])
def test_nan_is_not_swallowed(save_package, kind):
    settings: dict[str, dict[str, Any]] = {
        "thresholded_relu": {"alpha": 0.1},
        "clip": {"alpha": -1.0, "beta": 1.0},
        "max_pool": {"kernel_sizes": [2, 2], "pad_type": "valid"},
    }
    x = draw(1, 1, 2, 2)
    x[0, 0, 0, 1] = math.nan
    outputs = run(save_package, lambda mb, x: getattr(mb, kind)(x=x, **settings.get(kind, {})), x)
    assert any(np.isnan(array).any() for array in outputs.values())
