"""Elementwise operations: arithmetic, comparison, logic, activations, casts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.export.coreml.mil.datatypes import cast_tensor
from edgekd.export.coreml.mil.registry import OperatorArguments, operation

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "floor_div": torch.floor_divide,
    "mod": torch.remainder,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "floor": torch.floor,
    "identity": torch.clone,
    "logical_not": torch.logical_not,
    "relu": torch.relu,
    "relu6": F.relu6,
    "round": torch.round,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": F.silu,
    "sin": torch.sin,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


def _register_binary(kind: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operation(kind, "x y")
    def run(a: OperatorArguments) -> Tensor:
        return function(a.tensor("x"), a.tensor("y"))


def _register_unary(kind: str, function: Callable[[Tensor], Tensor]) -> None:
    @operation(kind, "x")
    def run(a: OperatorArguments) -> Tensor:
        return function(a.tensor("x"))


for _kind, _binary in _BINARY.items():
    _register_binary(_kind, _binary)
for _kind, _unary in _UNARY.items():
    _register_unary(_kind, _unary)


@operation("real_div", "x y")
def real_div(a: OperatorArguments) -> Tensor:
    x, y = a.tensor("x"), a.tensor("y")
    if not (x.is_floating_point() and y.is_floating_point()):
        # MIL leaves the rounding of integer quotients open.
        raise a.unknown("integer arguments")
    return x / y


@operation("rsqrt", "x", "epsilon")
def rsqrt(a: OperatorArguments) -> Tensor:
    return torch.rsqrt(a.tensor("x") + a.number("epsilon", 1e-12))


@operation("inverse", "x", "epsilon")
def inverse(a: OperatorArguments) -> Tensor:
    return torch.reciprocal(a.tensor("x") + a.number("epsilon", 1e-4))


@operation("log", "x", "epsilon")
def log(a: OperatorArguments) -> Tensor:
    return torch.log(a.tensor("x") + a.number("epsilon", 1e-45))


@operation("clip", "x alpha beta")
def clip(a: OperatorArguments) -> Tensor:
    return a.tensor("x").clamp(a.number("alpha"), a.number("beta"))


@operation("threshold", "x alpha")
def threshold(a: OperatorArguments) -> Tensor:
    return a.tensor("x").clamp(min=a.number("alpha"))


@operation("leaky_relu", "x alpha")
def leaky_relu(a: OperatorArguments) -> Tensor:
    return F.leaky_relu(a.tensor("x"), a.number("alpha"))


@operation("elu", "x alpha")
def elu(a: OperatorArguments) -> Tensor:
    return F.elu(a.tensor("x"), a.number("alpha"))


@operation("prelu", "x alpha")
def prelu(a: OperatorArguments) -> Tensor:
    return F.prelu(a.tensor("x"), a.tensor("alpha"))


@operation("clamped_relu", "x alpha beta")
def clamped_relu(a: OperatorArguments) -> Tensor:
    return F.leaky_relu(a.tensor("x"), a.number("alpha")).clamp(max=a.number("beta"))


@operation("linear_activation", "x alpha beta")
def linear_activation(a: OperatorArguments) -> Tensor:
    return a.tensor("x") * a.number("alpha") + a.number("beta")


@operation("scaled_tanh", "x alpha beta")
def scaled_tanh(a: OperatorArguments) -> Tensor:
    return torch.tanh(a.tensor("x") * a.number("beta")) * a.number("alpha")


@operation("sigmoid_hard", "x alpha beta")
def sigmoid_hard(a: OperatorArguments) -> Tensor:
    return (a.tensor("x") * a.number("alpha") + a.number("beta")).clamp(0, 1)


@operation("thresholded_relu", "x alpha")
def thresholded_relu(a: OperatorArguments) -> Tensor:
    x = a.tensor("x")
    return torch.where(x >= a.number("alpha"), x, torch.where(x.isnan(), x, 0.0))


@operation("gelu", "x", "mode")
def gelu(a: OperatorArguments) -> Tensor:
    x = a.tensor("x")
    modes = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    mode = a.choice("mode", modes, "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@operation("softmax", "x", "axis")
def softmax(a: OperatorArguments) -> Tensor:
    return a.tensor("x").softmax(a.integer("axis", -1))


@operation("cast", "x dtype")
def cast(a: OperatorArguments) -> Tensor:
    return cast_tensor(a.tensor("x"), a.data_type("dtype"), str(a.operation))


@operation("select", "cond a b")
def select(a: OperatorArguments) -> Tensor:
    return torch.where(a.tensor("cond"), a.tensor("a"), a.tensor("b"))
