"""Matrix products, attention, convolution and pooling against torch, through saved packages."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mil_cases import Case, binary, case_id, check, draw, kinds, run, with_x
from torch import Tensor

from edgekd.errors import GateError
from edgekd.export.coreml.mil import ops_linear

W2, W1, W3 = draw(6, 4, 3, 3, seed=2), draw(6, 4, 3, seed=2), draw(6, 4, 2, 3, 3, seed=2)
BIAS = draw(6, seed=3)
AROUND = {"pad_type": "custom", "pad": [1] * 4}
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
CASES = [
    conv(PICTURE, W2, lambda x: F.conv2d(x, W2)),
    conv(PICTURE, W2, lambda x: F.conv2d(x, W2, BIAS), bias=BIAS.numpy(), pad_type="valid"),
    conv(
        PICTURE,
        W2,
        lambda x: F.conv2d(x, W2, BIAS, stride=(2, 1), padding=1),
        bias=BIAS.numpy(),
        strides=[2, 1],
        **AROUND,
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
        **AROUND,
    ),
    conv_transpose(
        T2,
        lambda x: F.conv_transpose2d(x, T2, stride=2, padding=1, output_padding=1),
        strides=[2, 2],
        **AROUND,
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
        **AROUND,
    ),
    pool(
        "avg_pool",
        lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
        kernel_sizes=[3, 3],
        strides=[2, 2],
        **AROUND,
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
        **AROUND,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_linear)


def test_unknown_setting_is_refused(save_package):
    with pytest.raises(GateError, match=r"operation avg_pool .*ceil_mode=True"):
        run(
            save_package,
            lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[2, 2], pad_type="valid", ceil_mode=True),
            PICTURE,
        )
