"""Operations that move elements against torch, through saved packages."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mil_cases import Case, case_id, check, draw, kinds, whole, with_x
from torch import Tensor

from edgekd.export.coreml.mil import ops_shape

PICTURE = draw(2, 4, 8, 7)


def _narrow(result: Any) -> tuple[Tensor, Tensor]:
    return result.values, result.indices.int()


CASES = [
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
        "topk", lambda x: tuple(_narrow(x.topk(2, 1, largest=False))), k=2, axis=1, ascending=True
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


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_shape)
