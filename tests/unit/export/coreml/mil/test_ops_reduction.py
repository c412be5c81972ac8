"""Reductions and normalizations against torch, through saved packages."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from mil_cases import Case, case_id, check, draw, kinds, whole, with_x
from torch import Tensor

from edgekd.export.coreml.mil import ops_reduction


def reduction(kind: str, reference: Callable[..., Tensor], x: Tensor | None = None) -> list[Case]:
    x = draw(2, 3, 4, seed=5) if x is None else x
    return [
        with_x(kind, lambda x: reference(x, (1,), False), x, axes=[1]),
        with_x(kind, lambda x: reference(x, (0, 2), True), x, axes=[0, -1], keep_dims=True),
        with_x(kind, lambda x: reference(x, (0, 1, 2), True), x, keep_dims=True),
    ]


POSITIVE = draw(2, 3, 4, seed=6, positive=True)
PICTURE = draw(2, 4, 8, 7)
GAMMA, BETA = draw(4, seed=7), draw(4, seed=8)
CASES = [
    *reduction("reduce_mean", torch.mean),
    *reduction("reduce_sum", torch.sum),
    *reduction("reduce_max", torch.amax),
    *reduction("reduce_min", torch.amin),
    *reduction("reduce_prod", lambda x, axes, keep: (x.log().sum(axes, keep)).exp(), POSITIVE),
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


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_reduction)
