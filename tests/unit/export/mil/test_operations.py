"""Every operation of the evaluator against torch, through saved packages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.errors import GateError
from edgekd.export.mil.evaluator import PackageEvaluator
from edgekd.export.mil.registry import OPERATIONS


def draw(*shape: int, seed: int = 0, positive: bool = False) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.abs() + 0.1 if positive else values


def whole(*shape: int, high: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high, shape, generator=generator, dtype=torch.int32)


@dataclass(frozen=True)
class Case:
    """`build(mb, *inputs)` is one program, `reference(*inputs)` the same in torch."""

    kind: str
    build: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Tensor, ...] = field(default_factory=lambda: (draw(2, 3, 4),))
    target: str = "iOS17"
    label: str = ""


def unary(kind: str, reference: Callable[[Tensor], Tensor], x: Tensor | None = None) -> Case:
    x = draw(2, 3, 4) * 2 if x is None else x
    return Case(kind, lambda mb, x: getattr(mb, kind)(x=x), reference, (x,))


def binary(kind: str, reference: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> Case:
    inputs = inputs or (draw(2, 3, 4), draw(3, 1, seed=1))
    return Case(kind, lambda mb, x, y: getattr(mb, kind)(x=x, y=y), reference, inputs)


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


def with_x(
    kind: str,
    reference: Callable[[Tensor], Any],
    x: Tensor | None = None,
    target: str = "iOS17",
    **parameters: Any,
) -> Case:
    """One input and constant parameters."""
    label = "-".join(f"{key}={value}" for key, value in parameters.items())[:60]
    x = draw(2, 3, 4) if x is None else x
    build = lambda mb, x: getattr(mb, kind)(x=x, **parameters)  # noqa: E731
    return Case(kind, build, reference, (x,), target, label)


ELEMENTWISE = [
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

W2, W1, W3 = draw(6, 4, 3, 3, seed=2), draw(6, 4, 3, seed=2), draw(6, 4, 2, 3, 3, seed=2)
BIAS = draw(6, seed=3)
PICTURE, ODD = draw(2, 4, 8, 7), draw(1, 4, 7, 9)


def conv(
    x: Tensor, weight: Tensor, reference: Callable[[Tensor], Tensor], **parameters: Any
) -> Case:
    case = with_x("conv", reference, x, **parameters)
    build = lambda mb, x: mb.conv(x=x, weight=weight.numpy(), **parameters)  # noqa: E731
    return Case("conv", build, reference, (x,), label=f"{x.dim() - 2}d {case.label}")


def same(x: Tensor, kernel: int, stride: int, lower: bool) -> Tensor:
    """Pads to ceil(size / stride) outputs."""
    pads = []
    for size in reversed(x.shape[2:]):
        total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
        first = math.ceil(total / 2) if lower else total // 2
        pads += [first, total - first]
    return F.pad(x, pads)


def conv_transpose(
    weight: Tensor, reference: Callable[[Tensor], Tensor], x: Tensor = ODD, **parameters: Any
) -> Case:
    label = "-".join(parameters)
    build = lambda mb, x: mb.conv_transpose(x=x, weight=weight.numpy(), **parameters)  # noqa: E731
    return Case("conv_transpose", build, reference, (x,), label=label)


def pool(kind: str, reference: Callable[[Tensor], Tensor], **parameters: Any) -> Case:
    # All negative, so that a maximum shows what padding is made of.
    return with_x(kind, reference, PICTURE - 10, **{"pad_type": "valid", **parameters})


T2 = draw(4, 6, 3, 3, seed=2)
LINEAR = [
    conv(PICTURE, W2, lambda x: F.conv2d(x, W2)),
    conv(PICTURE, W2, lambda x: F.conv2d(x, W2, BIAS), bias=BIAS.numpy(), pad_type="valid"),
    conv(
        PICTURE,
        W2,
        lambda x: F.conv2d(x, W2, BIAS, stride=(2, 1), padding=1),
        bias=BIAS.numpy(),
        strides=[2, 1],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    ),
    conv(
        PICTURE,
        W2,
        lambda x: F.conv2d(F.pad(x, (0, 1, 2, 0)), W2, stride=2),
        strides=[2, 2],
        pad_type="custom",
        pad=[2, 0, 0, 1],
    ),
    conv(PICTURE, W2, lambda x: F.conv2d(x, W2, dilation=(2, 3)), dilations=[2, 3]),
    conv(PICTURE, W2[:, :2], lambda x: F.conv2d(x, W2[:, :2], groups=2), groups=2),
    conv(PICTURE, W2[:4, :1], lambda x: F.conv2d(x, W2[:4, :1], groups=4), groups=4),
    *(
        conv(
            ODD if size == "odd" else PICTURE,
            W2,
            lambda x, stride=stride, kind=kind: F.conv2d(
                same(x, 3, stride, kind == "same_lower"), W2, stride=stride
            ),
            strides=[stride] * 2,
            pad_type=kind,
        )
        for kind in ("same", "same_lower")
        for stride in (1, 2)
        for size in ("odd", "even")
    ),
    conv(draw(2, 4, 9), W1, lambda x: F.conv1d(x, W1, stride=2), strides=[2]),
    conv(
        draw(1, 4, 4, 5, 6),
        W3,
        lambda x: F.conv3d(x, W3, padding=(0, 1, 1)),
        pad_type="custom",
        pad=[0, 0, 1, 1, 1, 1],
    ),
    conv_transpose(T2, lambda x: F.conv_transpose2d(x, T2)),
    conv_transpose(
        T2,
        lambda x: F.conv_transpose2d(x, T2, BIAS, stride=2, padding=1),
        bias=BIAS.numpy(),
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    ),
    conv_transpose(
        T2,
        lambda x: F.conv_transpose2d(x, T2, stride=2, padding=1, output_padding=1),
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        output_shape=[1, 6, 14, 18],
    ),
    conv_transpose(
        T2[:, :3], lambda x: F.conv_transpose2d(x, T2[:, :3], groups=2), groups=2, dilations=[1, 1]
    ),
    with_x(
        "linear",
        lambda x: F.linear(x, W1[..., 0], BIAS),
        weight=W1[..., 0].numpy().copy(),
        bias=BIAS.numpy(),
    ),
    with_x("linear", lambda x: F.linear(x, W1[..., 1]), weight=W1[..., 1].numpy().copy()),
    binary("matmul", torch.matmul, draw(2, 3, 4), draw(2, 4, 5, seed=1)),
    binary("matmul", torch.matmul, draw(3, 4), draw(2, 4, 5, seed=1)),
    Case(
        "matmul",
        lambda mb, x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True),
        lambda x, y: x.mT @ y.mT,
        (draw(2, 4, 3), draw(2, 5, 4, seed=1)),
        label="transposed",
    ),
    *(
        Case(
            "einsum",
            lambda mb, x, y, equation=equation: mb.einsum(values=(x, y), equation=equation),
            lambda x, y, equation=equation: torch.einsum(equation, x, y),
            (x, y),
            label=equation,
        )
        for equation, x, y in (
            # The attention of Apple's Neural Engine layout.
            ("nchw,nwhu->nchu", draw(1, 3, 1, 5), draw(1, 5, 1, 4)),
            ("chw,whu->chu", draw(3, 2, 5), draw(5, 2, 4)),
        )
    ),
    Case(
        "scaled_dot_product_attention",
        lambda mb, x, y, z: mb.scaled_dot_product_attention(query=x, key=y, value=z),
        F.scaled_dot_product_attention,
        (draw(2, 2, 5, 4), draw(2, 2, 6, 4, seed=1), draw(2, 2, 6, 3, seed=2)),
        "iOS18",
    ),
    Case(
        "scaled_dot_product_attention",
        lambda mb, x, y, z, w: mb.scaled_dot_product_attention(
            query=x, key=y, value=z, attn_mask=w
        ),
        lambda x, y, z, w: (x @ y.mT / 2 + w).softmax(-1) @ z,
        (draw(2, 2, 5, 4), draw(2, 2, 6, 4, seed=1), draw(2, 2, 6, 4, seed=2), draw(5, 6)),
        "iOS18",
        "added mask",
    ),
    Case(
        "scaled_dot_product_attention",
        lambda mb, x, y, z, w: mb.scaled_dot_product_attention(
            query=x, key=y, value=z, attn_mask=mb.cast(x=w, dtype="bool")
        ),
        lambda x, y, z, w: (x @ y.mT / 2).masked_fill(w == 0, -math.inf).softmax(-1) @ z,
        (
            draw(2, 2, 5, 4),
            draw(2, 2, 6, 4, seed=1),
            draw(2, 2, 6, 4, seed=2),
            torch.ones(5, 6, dtype=torch.int32).tril(),
        ),
        "iOS18",
        "boolean mask",
    ),
    pool("avg_pool", lambda x: F.avg_pool2d(x, 2, 2), kernel_sizes=[2, 2], strides=[2, 2]),
    pool(
        "avg_pool",
        lambda x: F.avg_pool2d(x, 3, 2, padding=1),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    ),
    pool(
        "avg_pool",
        lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        exclude_padding_from_average=True,
    ),
    pool(
        "max_pool", lambda x: F.max_pool2d(x, (2, 3), (2, 1)), kernel_sizes=[2, 3], strides=[2, 1]
    ),
    pool(
        "max_pool",
        lambda x: F.max_pool2d(x, 3, 2, padding=1),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        pad_type="custom",
        pad=[1, 1, 1, 1],
    ),
]


def reduction(kind: str, reference: Callable[..., Tensor], x: Tensor | None = None) -> list[Case]:
    x = draw(2, 3, 4, seed=5) if x is None else x
    return [
        with_x(kind, lambda x: reference(x, (1,), False), x, axes=[1]),
        with_x(kind, lambda x: reference(x, (0, 2), True), x, axes=[0, -1], keep_dims=True),
        with_x(kind, lambda x: reference(x, (0, 1, 2), True), x, keep_dims=True),
    ]


POSITIVE = draw(2, 3, 4, seed=6, positive=True)
GAMMA, BETA = draw(4, seed=7), draw(4, seed=8)
REDUCTION = [
    *reduction("reduce_mean", torch.mean),
    *reduction("reduce_sum", torch.sum),
    *reduction("reduce_max", torch.amax),
    *reduction("reduce_min", torch.amin),
    *reduction(
        "reduce_prod",
        lambda x, axes, keep: (x.log().sum(axes, keep)).exp(),
        POSITIVE,
    ),
    *reduction("reduce_sum_square", lambda x, axes, keep: x.square().sum(axes, keep)),
    *reduction("reduce_l1_norm", lambda x, axes, keep: torch.linalg.vector_norm(x, 1, axes, keep)),
    *reduction("reduce_l2_norm", lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    *reduction("reduce_log_sum", lambda x, axes, keep: x.sum(axes, keep).log(), POSITIVE),
    *reduction("reduce_log_sum_exp", torch.logsumexp),
    with_x("reduce_sum", lambda x: x.sum(1, dtype=torch.int32), whole(3, 4), axes=[1]),
    with_x("reduce_argmax", lambda x: x.argmax(-1).int()),
    with_x("reduce_argmax", lambda x: x.argmax(1, keepdim=True).int(), axis=1, keep_dims=True),
    with_x("reduce_argmin", lambda x: x.argmin(0).int(), axis=0),
    Case(
        "reduce_argmax",
        lambda mb, x: mb.cast(x=mb.reduce_argmax(x=x, output_dtype="uint16"), dtype="int32"),
        lambda x: x.argmax(-1).int(),
        label="uint16",
    ),
    with_x(
        "layer_norm",
        lambda x: F.layer_norm(x, (4,), GAMMA, BETA, 1e-3),
        axes=[-1],
        gamma=GAMMA.numpy(),
        beta=BETA.numpy(),
        epsilon=1e-3,
    ),
    with_x("layer_norm", lambda x: F.layer_norm(x, (3, 4)), axes=[1, 2]),
    with_x(
        "layer_norm",
        lambda x: F.layer_norm(x.mT, (4,), GAMMA, BETA).mT,
        draw(2, 4, 3),
        axes=[1],
        gamma=GAMMA.numpy(),
        beta=BETA.numpy(),
    ),
    with_x("instance_norm", lambda x: F.instance_norm(x, eps=1e-3), PICTURE, epsilon=1e-3),
    with_x(
        "instance_norm",
        lambda x: F.instance_norm(x, weight=GAMMA, bias=BETA),
        PICTURE,
        gamma=GAMMA.numpy(),
        beta=BETA.numpy(),
        epsilon=1e-5,
    ),
    with_x(
        "batch_norm",
        lambda x: F.batch_norm(x, BETA, GAMMA.abs(), GAMMA, BETA),
        PICTURE,
        mean=BETA.numpy(),
        variance=GAMMA.abs().numpy(),
        gamma=GAMMA.numpy(),
        beta=BETA.numpy(),
    ),
    with_x("l2_norm", lambda x: x / (x.square().sum((-3, -2, -1), True) + 1e-6).sqrt(), PICTURE),
]

Q = np.float32([0.02, 0.05, 0.1])
MOVES = [
    with_x("reshape", lambda x: x.reshape(6, 4), shape=[6, 4]),
    with_x("reshape", lambda x: x.reshape(4, 6), shape=[4, -1]),
    with_x("reshape", lambda x: x.reshape(2, 3, 4, 1).reshape(1, 2, 3, 4), shape=[1, 2, 0, 0]),
    with_x("reshape", lambda x: x.reshape(1, 1, 2, 50), draw(2, 50), shape=[1, 0, -1, 0]),
    with_x("transpose", lambda x: x.permute(2, 0, 1), perm=[2, 0, 1]),
    with_x("transpose", lambda x: x.permute(0, 2, 1), perm=[0, -1, 1]),
    with_x("expand_dims", lambda x: x[:, None, :, :, None], axes=[1, -1]),
    with_x("squeeze", lambda x: x.squeeze(1), draw(2, 1, 3, 1), axes=[1]),
    with_x("squeeze", lambda x: x.squeeze(), draw(2, 1, 3, 1)),
    with_x("slice_by_index", lambda x: x[0:1, 1:3, 0:4], begin=[0, 1, 0], end=[1, 3, 4]),
    with_x(
        "slice_by_index",
        lambda x: x[:, 1:, :3],
        begin=[1, 1, 1],
        end=[1, 1, 3],
        begin_mask=[True, False, True],
        end_mask=[True, True, False],
    ),
    with_x(
        "slice_by_index",
        lambda x: x.flip(2)[:, :, ::2][:, 1:2],
        begin=[0, 1, -1],
        end=[2, 2, -5],
        stride=[1, 1, -2],
    ),
    with_x(
        "slice_by_index",
        lambda x: x.flip(1)[:, :, -3:-1],
        begin=[0, 0, -3],
        end=[0, 0, -1],
        stride=[1, -1, 1],
        begin_mask=[True, True, False],
        end_mask=[True, True, False],
    ),
    with_x(
        "slice_by_index",
        lambda x: x[-1, :, 2],
        begin=[-1, 0, 2],
        end=[0, 3, 0],
        squeeze_mask=[True, False, True],
    ),
    with_x("slice_by_size", lambda x: x[:, 1:3, 1:], begin=[0, 1, 1], size=[2, 2, -1]),
    Case(
        "concat",
        lambda mb, x, y: mb.concat(values=(x, y), axis=1),
        lambda x, y: torch.cat((x, y), 1),
        (draw(2, 3, 4), draw(2, 1, 4, seed=1)),
    ),
    Case(
        "concat",
        lambda mb, x, y: mb.concat(values=(x, y), axis=-1, interleave=True),
        lambda x, y: torch.stack((x, y), -1).reshape(2, 3, 8),
        (draw(2, 3, 4), draw(2, 3, 4, seed=1)),
        label="interleave",
    ),
    Case(
        "concat", lambda mb, x: mb.concat(values=(x,), axis=1), lambda x: x, label="a single value"
    ),
    Case(
        "stack",
        lambda mb, x, y: mb.stack(values=(x, y), axis=-1),
        lambda x, y: torch.stack((x, y), -1),
        (draw(2, 3), draw(2, 3, seed=1)),
    ),
    with_x("split", lambda x: x.chunk(2, 2), num_splits=2, axis=2),
    with_x("split", lambda x: x.split((1, 3), -1), split_sizes=[1, 3], axis=-1),
    with_x("tile", lambda x: x.repeat(1, 2, 3), reps=[1, 2, 3]),
    with_x("reverse", lambda x: x.flip(0, 2), axes=[0, -1]),
    with_x("reverse", lambda x: x.flip(0, 1, 2)),
    with_x("pad", lambda x: F.pad(x, (1, 2)), pad=[1, 2]),
    with_x(
        "pad",
        lambda x: F.pad(x, (0, 3, 1, 2), value=0.5),
        pad=[1, 2, 0, 3],
        mode="constant",
        constant_val=0.5,
    ),
    with_x(
        "pad",
        lambda x: F.pad(x, (2, 1, 0, 3), "reflect"),
        PICTURE,
        pad=[0, 3, 2, 1],
        mode="reflect",
    ),
    with_x(
        "pad",
        lambda x: F.pad(x, (2, 1, 0, 3), "replicate"),
        PICTURE,
        pad=[0, 3, 2, 1],
        mode="replicate",
    ),
    with_x("band_part", lambda x: x.tril(1).triu(-1), draw(4, 5), lower=1, upper=1),
    with_x("band_part", torch.tril, draw(4, 5), lower=-1, upper=0),
    with_x("band_part", torch.triu, draw(4, 5), lower=0),
    with_x("cumsum", lambda x: x.cumsum(0)),
    with_x("cumsum", lambda x: x.flip(1).cumsum(1).flip(1), axis=1, reverse=True),
    with_x("cumsum", lambda x: x.cumsum(2) - x, axis=2, exclusive=True),
    with_x("cumsum", lambda x: x.cumsum(1, dtype=torch.int32), whole(3, 4), axis=1),
    Case(
        "fill",
        lambda mb, x: mb.add(x=x, y=mb.fill(shape=[3, 4], value=0.5)),
        lambda x: x + 0.5,
        (draw(3, 4),),
    ),
    Case(
        "fill_like",
        lambda mb, x: mb.fill_like(ref_tensor=x, value=2.5),
        lambda x: torch.full_like(x, 2.5),
        (draw(3, 4),),
    ),
    Case("shape", lambda mb, x: mb.shape(x=x), lambda x: torch.tensor(x.shape, dtype=torch.int32)),
    Case(
        "range_1d",
        lambda mb, x: mb.add(x=x, y=mb.range_1d(start=1.0, end=8.5, step=2.0)),
        lambda x: x + torch.arange(1.0, 8.5, 2.0),
        (draw(2, 4),),
    ),
    with_x("topk", lambda x: tuple(_narrow(x.topk(2))), k=2),
    with_x(
        "topk",
        lambda x: tuple(_narrow(x.topk(2, 1, largest=False))),
        k=2,
        axis=1,
        ascending=True,
    ),
    with_x("topk", lambda x: x.topk(1).values, k=1, return_indices=False),
    with_x("argsort", lambda x: x.argsort(-1).int(), ascending=True),
    with_x("argsort", lambda x: x.argsort(1, descending=True).int(), axis=1),
    Case(
        "one_hot",
        lambda mb, x: mb.one_hot(indices=x, one_hot_vector_size=4),
        lambda x: F.one_hot(x.long(), 4).int(),
        (whole(2, 3, high=4),),
    ),
    Case(
        "one_hot",
        lambda mb, x: mb.one_hot(
            indices=x, one_hot_vector_size=4, axis=0, on_value=2.0, off_value=0.5
        ),
        lambda x: 1.5 * F.one_hot(x.long(), 4).permute(2, 0, 1) + 0.5,
        (whole(2, 3, high=4),),
        label="values, axis 0",
    ),
]


def _narrow(result: Any) -> tuple[Tensor, Tensor]:
    return result.values, result.indices.int()


TABLE = draw(7, 3, 5)
INDEXING = [
    with_x("gather", lambda x: x[torch.tensor([2, 0, 2])], TABLE, indices=[2, 0, 2]),
    with_x(
        "gather",
        lambda x: x[:, :, torch.tensor([[1, 4], [0, 0]])],
        TABLE,
        indices=np.int32([[1, 4], [0, 0]]),
        axis=-1,
    ),
    with_x("gather", lambda x: x[:, 2], TABLE, indices=np.int32(2), axis=1),
    Case(
        "gather",
        lambda mb, x, y: mb.gather(x=x, indices=mb.cast(x=y, dtype="uint16"), axis=0),
        lambda x, y: x[y.long()],
        (TABLE, whole(2, 4, high=7)),
        label="computed uint16 indices",
    ),
    Case(
        "gather",
        lambda mb, x, y: mb.gather(x=x, indices=y, axis=2, batch_dims=1),
        lambda x, y: torch.stack([row[:, at.long()] for row, at in zip(x, y, strict=True)]),
        (TABLE, whole(7, 2, high=5)),
        label="batch_dims=1",
    ),
    Case(
        "gather",
        lambda mb, x, y: mb.gather(x=x, indices=y, axis=2, batch_dims=2, validate_indices=True),
        lambda x, y: x.gather(2, y.long()),
        (TABLE, whole(7, 3, 2, high=5)),
        label="batch_dims=2",
    ),
    Case(
        "gather_along_axis",
        lambda mb, x, y: mb.gather_along_axis(x=x, indices=y, axis=1),
        lambda x, y: x.gather(1, y.long()),
        (TABLE, whole(7, 2, 5, high=3)),
    ),
    Case(
        "gather_nd",
        lambda mb, x, y: mb.gather_nd(x=x, indices=y),
        lambda x, y: x[y[:, 0].long(), y[:, 1].long()],
        (TABLE, whole(4, 2, high=3)),
    ),
    Case(
        "gather_nd",
        lambda mb, x, y: mb.gather_nd(x=x, indices=y, batch_dims=1),
        lambda x, y: torch.stack([row[at.long()] for row, at in zip(x, y[..., 0], strict=True)]),
        (TABLE, whole(7, 4, 1, high=3)),
        label="batch_dims=1",
    ),
    *(
        Case(
            "scatter_along_axis",
            lambda mb, x, y, z, mode=mode: mb.scatter_along_axis(
                data=x, indices=y, updates=z, axis=1, mode=mode
            ),
            lambda x, y, z, mode=mode: (
                x.scatter(1, y.long(), z) if mode == "update" else x.scatter_add(1, y.long(), z)
            ),
            (draw(3, 5), torch.tensor([[0, 2], [1, 4], [3, 0]], dtype=torch.int32), draw(3, 2)),
            label=mode,
        )
        for mode in ("update", "add")
    ),
]


def resized(mode: str, height: int, width: int, reference: Callable[[Tensor], Tensor]) -> Case:
    return with_x(
        "resize_bilinear",
        reference,
        PICTURE,
        target_size_height=height,
        target_size_width=width,
        sampling_mode=mode,
    )


def bilinear(x: Tensor, size: tuple[int, int], corners: bool) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=corners)


IMAGE = [
    *(
        with_x(
            "upsample_nearest_neighbor",
            lambda x, f=factors: F.interpolate(x, scale_factor=f, mode="nearest"),
            PICTURE,
            scale_factor_height=factors[0],
            scale_factor_width=factors[1],
        )
        for factors in ((2.0, 2.0), (1.5, 3.0))
    ),
    with_x(
        "upsample_nearest_neighbor",
        lambda x: x.repeat_interleave(2, 1).repeat_interleave(2, 2),
        scale_factor_height=2,
        scale_factor_width=2,
    ),
    with_x(
        "resize_nearest_neighbor",
        lambda x: F.interpolate(x, size=(16, 5), mode="nearest"),
        PICTURE,
        target_size_height=16,
        target_size_width=5,
    ),
    *(
        with_x(
            "upsample_bilinear",
            lambda x, corners=corners: bilinear(x, (16, 10), corners),
            PICTURE,
            scale_factor_height=2.0,
            scale_factor_width=1.5,
            align_corners=corners,
        )
        for corners in (True, False)
    ),
    resized("STRICT_ALIGN_CORNERS", 5, 13, lambda x: bilinear(x, (5, 13), True)),
    resized("ALIGN_CORNERS", 16, 13, lambda x: bilinear(x, (16, 13), True)),
    resized("UNALIGN_CORNERS", 5, 13, lambda x: bilinear(x, (5, 13), False)),
    # One output lies in the middle.
    resized("ALIGN_CORNERS", 1, 7, lambda x: (x[:, :, 3:4] + x[:, :, 4:5]) / 2),
    # Spacing (8 - 8/16) / 15 = 1/2 along the height, 1 along the width.
    resized(
        "DEFAULT",
        16,
        7,
        lambda x: bilinear(F.pad(x, (0, 0, 0, 1), "replicate"), (17, 7), True)[:, :, :16],
    ),
    with_x("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), PICTURE, upscale_factor=2),
    with_x(
        "pixel_unshuffle",
        lambda x: F.pixel_unshuffle(x, 2),
        draw(1, 2, 4, 6),
        downscale_factor=np.uint32(2),
    ),
    # With one channel left, the block's order is the same as pixel_shuffle's.
    with_x("depth_to_space", lambda x: F.pixel_shuffle(x, 2), PICTURE, block_size=2),
    with_x(
        "depth_to_space",
        lambda x: F.pixel_shuffle(x.reshape(1, 4, 3, 2, 5).transpose(1, 2).flatten(1, 2), 2),
        draw(1, 12, 2, 5),
        block_size=2,
    ),
    with_x(
        "space_to_depth",
        lambda x: F.pixel_unshuffle(x, 2).reshape(1, 3, 4, 2, 3).transpose(1, 2).flatten(1, 2),
        draw(1, 3, 4, 6),
        block_size=2,
    ),
]

QUANTIZATION = [
    Case(
        "quantize",
        lambda mb, x: mb.cast(
            x=mb.quantize(input=x, scale=np.float32(0.03), output_dtype="int8"), dtype="int32"
        ),
        lambda x: torch.quantize_per_tensor(x, 0.03, 0, torch.qint8).int_repr().int(),
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
        lambda x: torch.quantize_per_tensor(x, 0.03, 120, torch.quint8).int_repr().int(),
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
        lambda x: torch.quantize_per_channel(
            x, torch.tensor(Q).double(), torch.tensor([0, 3, -5]), 1, torch.qint8
        ).dequantize(),
        (draw(2, 3, 40) * 3,),
        label="per channel",
    ),
    Case(
        "dequantize",
        lambda mb, x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.05), output_dtype="int8"),
            scale=np.float32(0.05),
        ),
        lambda x: torch.quantize_per_tensor(x, 0.05, 0, torch.qint8).dequantize(),
        (draw(2, 3, 40) * 3,),
        label="per tensor",
    ),
]

CASES = [*ELEMENTWISE, *LINEAR, *REDUCTION, *MOVES, *INDEXING, *IMAGE, *QUANTIZATION]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind} {case.label}".strip())
def test_operation_equals_torch(case: Case, save_package: Callable[..., Any]) -> None:
    package = save_package(case.build, case.inputs, case.target)
    evaluator = PackageEvaluator(package)
    outputs = evaluator(
        {name: x.numpy() for name, x in zip(evaluator.inputs, case.inputs, strict=True)}
    )
    expected = case.reference(*case.inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    assert case.kind in {step.kind for step, _ in evaluator._steps}
    assert len(outputs) == len(expected)
    for name, reference in zip(evaluator.outputs, expected, strict=True):
        # torch's own tolerance for float32: both sum in float32, in different orders.
        torch.testing.assert_close(torch.from_numpy(outputs[name]), reference)


def test_every_operation_has_a_case() -> None:
    assert {case.kind for case in CASES} == set(OPERATIONS)


def run(save_package: Callable[..., Any], build: Callable[..., Any], *inputs: Tensor) -> Any:
    evaluator = PackageEvaluator(save_package(build, inputs))
    return evaluator({name: x.numpy() for name, x in zip(evaluator.inputs, inputs, strict=True)})


def test_unknown_operation_is_refused(save_package: Callable[..., Any]) -> None:
    with pytest.raises(GateError, match="known to the evaluator, but got operation atanh"):
        run(save_package, lambda mb, x: mb.atanh(x=x), draw(3))


def test_unknown_setting_is_refused(save_package: Callable[..., Any]) -> None:
    with pytest.raises(GateError, match=r"operation avg_pool .*ceil_mode=True"):
        run(
            save_package,
            lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 2], pad_type="valid", ceil_mode=True),
            PICTURE,
        )


def test_integer_division_is_refused(save_package: Callable[..., Any]) -> None:
    with pytest.raises(GateError, match=r"operation real_div .*integer arguments"):
        run(save_package, lambda mb, x, y: mb.real_div(x=x, y=y), whole(3), whole(3) + 1)


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range_is_refused(save_package: Callable[..., Any], index: int) -> None:
    indices = torch.tensor([0, index], dtype=torch.int32)
    with pytest.raises(GateError, match="indices must be from 0 to 6"):
        run(save_package, lambda mb, x, y: mb.gather(x=x, indices=y, axis=0), TABLE, indices)


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e9, -3e9])
def test_cast_to_integer_must_fit(save_package: Callable[..., Any], value: float) -> None:
    with pytest.raises(GateError, match="a value cast to int32 must fit"):
        run(save_package, lambda mb, x: mb.cast(x=x, dtype="int32"), torch.tensor([0.0, value]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_quantized_activations_must_be_finite(
    save_package: Callable[..., Any], value: float
) -> None:
    def build(mb: Any, x: Any) -> Any:
        levels = mb.quantize(input=x, scale=np.float32(0.1), output_dtype="int8")
        return mb.dequantize(input=levels, scale=np.float32(0.1))

    with pytest.raises(GateError, match="quantized activations must be finite"):
        run(save_package, build, torch.tensor([0.0, value]))


@pytest.mark.parametrize("kind", ["relu", "thresholded_relu", "clip", "max_pool", "reduce_max"])
def test_nan_is_not_swallowed(save_package: Callable[..., Any], kind: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "thresholded_relu": {"alpha": 0.1},
        "clip": {"alpha": -1.0, "beta": 1.0},
        "max_pool": {"kernel_sizes": [2, 2], "pad_type": "valid"},
    }
    x = draw(1, 1, 2, 2)
    x[0, 0, 0, 1] = math.nan
    outputs = run(save_package, lambda mb, x: getattr(mb, kind)(x=x, **settings.get(kind, {})), x)
    assert any(np.isnan(array).any() for array in outputs.values())
