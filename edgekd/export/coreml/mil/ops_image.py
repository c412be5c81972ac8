"""Resizing pictures, and moving pixels between channels and space.

Shapes: [.., H, W], any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.export.coreml.mil.registry import OperatorArguments, operation

# MIL's sampling modes: (input size, output size) -> place in the input of each output.
_GRIDS: dict[str, Callable[[int, int], Tensor]] = {
    "STRICT_ALIGN_CORNERS": lambda n, m: torch.arange(m) * ((n - 1) / max(m - 1, 1)),
    "ALIGN_CORNERS": lambda n, m: (
        torch.arange(m) * ((n - 1) / (m - 1)) if m > 1 else torch.tensor([(n - 1) / 2])
    ),
    "DEFAULT": lambda n, m: torch.arange(m) * ((n - n / m) / max(m - 1, 1)),
    "OFFSET_CORNERS": lambda n, m: (torch.arange(m) + 0.5) * (max(1, n - 1) / m),
    "UNALIGN_CORNERS": lambda n, m: (torch.arange(m) + 0.5) * (n / m) - 0.5,
}


@operation("upsample_nearest_neighbor", "x", "scale_factor_height scale_factor_width")
def upsample_nearest_neighbor(a: OperatorArguments) -> Tensor:
    factors = (a.number("scale_factor_height", 1.0), a.number("scale_factor_width", 1.0))
    x = a.tensor("x")
    return _restore(F.interpolate(_pictures(x), scale_factor=factors, mode="nearest"), x)


@operation("resize_nearest_neighbor", "x target_size_height target_size_width")
def resize_nearest_neighbor(a: OperatorArguments) -> Tensor:
    x, size = a.tensor("x"), (a.integer("target_size_height"), a.integer("target_size_width"))
    return _restore(F.interpolate(_pictures(x), size=size, mode="nearest"), x)


@operation("upsample_bilinear", "x", "scale_factor_height scale_factor_width align_corners")
def upsample_bilinear(a: OperatorArguments) -> Tensor:
    x = a.tensor("x")
    size = [
        math.floor(x.shape[axis] * a.number(name, 1.0))
        for axis, name in ((-2, "scale_factor_height"), (-1, "scale_factor_width"))
    ]
    corners = a.flag("align_corners", True)
    resized = F.interpolate(_pictures(x), size=size, mode="bilinear", align_corners=corners)
    return _restore(resized, x)


@operation("resize_bilinear", "x", "target_size_height target_size_width sampling_mode")
def resize_bilinear(a: OperatorArguments) -> Tensor:
    mode = a.choice("sampling_mode", tuple(_GRIDS), "DEFAULT")
    sizes = (a.integer("target_size_height", 1), a.integer("target_size_width", 1))
    return _linear(_linear(a.tensor("x"), -2, sizes[0], mode), -1, sizes[1], mode)


def _linear(x: Tensor, axis: int, size: int, mode: str) -> Tensor:
    """Linear interpolation along one axis."""
    last = x.shape[axis] - 1
    places = _GRIDS[mode](last + 1, size).double().clamp(0, last)
    low = places.floor().long()
    share = (places - low).to(x.dtype).reshape([-1] + [1] * (-axis - 1))
    below = x.index_select(axis, low)
    return below + (x.index_select(axis, (low + 1).clamp(max=last)) - below) * share


def _pictures(x: Tensor) -> Tensor:
    return x.reshape(1, -1, x.shape[-2], x.shape[-1]) if x.dim() != 4 else x


def _restore(resized: Tensor, x: Tensor) -> Tensor:
    return resized.reshape(x.shape[:-2] + resized.shape[-2:])


@operation("pixel_shuffle", "x upscale_factor")
def pixel_shuffle(a: OperatorArguments) -> Tensor:
    return F.pixel_shuffle(a.tensor("x"), a.integer("upscale_factor"))


@operation("pixel_unshuffle", "x downscale_factor")
def pixel_unshuffle(a: OperatorArguments) -> Tensor:
    return F.pixel_unshuffle(a.tensor("x"), a.integer("downscale_factor"))


@operation("depth_to_space", "x block_size")
def depth_to_space(a: OperatorArguments) -> Tensor:
    """[N, b*b*C, H, W] -> [N, C, H*b, W*b], the block's place outermost in the channels."""
    x, b = a.tensor("x"), a.integer("block_size")
    n, channels, height, width = x.shape
    split = x.reshape(n, b, b, channels // (b * b), height, width)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * b, width * b)


@operation("space_to_depth", "x block_size")
def space_to_depth(a: OperatorArguments) -> Tensor:
    """The reverse of `depth_to_space`."""
    x, b = a.tensor("x"), a.integer("block_size")
    n, channels, height, width = x.shape
    split = x.reshape(n, channels, height // b, b, width // b, b)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, height // b, width // b)
