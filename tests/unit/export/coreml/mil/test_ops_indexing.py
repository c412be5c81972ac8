"""Gathering and scattering against torch, through saved packages."""

import numpy as np
import pytest
import torch
from mil_cases import Case, case_id, check, draw, kinds, run, whole, with_x

from edgekd.errors import GateError
from edgekd.export.coreml.mil import ops_indexing

TABLE = draw(7, 3, 5)
CASES = [
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


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_indexing)


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range_is_refused(save_package, index):
    indices = torch.tensor([0, index], dtype=torch.int32)
    with pytest.raises(GateError, match="indices must be from 0 to 6"):
        run(save_package, lambda mb, x, y: mb.gather(x=x, indices=y, axis=0), TABLE, indices)
