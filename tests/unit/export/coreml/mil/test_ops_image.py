"""Resizing pictures against torch, through saved packages."""

from collections.abc import Callable

import numpy as np
import pytest
import torch.nn.functional as F
from mil_cases import Case, case_id, check, draw, kinds, with_x
from torch import Tensor

from edgekd.export.coreml.mil import ops_image

PICTURE = draw(2, 4, 8, 7)


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


CASES = [
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


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_operation_equals_torch(case, save_package):
    check(case, save_package)


def test_every_operation_has_a_case():
    assert {case.kind for case in CASES} == kinds(ops_image)
