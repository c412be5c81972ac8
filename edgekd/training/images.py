"""How far images are from others, differentiably, and how sharp they are.

Shapes: images [N, 3, H, W] in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Levels of EfficientNet-Lite0 that still have positions at 64 pixels: strides 2, 4, 8 and 16.
PERCEPTUAL_LEVELS = 4


def perceptual_distance(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Squared distance of channel-normalised maps, summed over levels, mean over positions.

    A perceptual loss in the manner of LPIPS (Zhang et al. 2018, arXiv:1801.03924, eq. 1),
    without learned weights.

    Args:
        maps: of each level, [N, C_l, h_l, w_l].
        targets: the same of other images.
    """
    terms = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean()
        for a, b in zip(maps, targets, strict=True)
    ]
    return torch.stack(terms).sum()


def psnr_db(images: Tensor, targets: Tensor) -> Tensor:
    """PSNR per image in dB, [N]; the peak-to-peak range is 2."""
    error = (images - targets).square().flatten(1).mean(dim=1).clamp(min=1e-12)
    return 10 * torch.log10(4 / error)


def laplacian_energy(images: Tensor) -> Tensor:
    """Mean squared Laplacian per image, [N]: what there is of high frequencies.

    The focus measure "energy of Laplacian" (Subbarao, Choi and Nikzad 1993, "Focusing
    techniques", Optical Engineering 32(11)), of the four-neighbour Laplacian inside the image.
    Blur lowers it; so it says something of images of the same things only. Noise raises it.
    """
    rows, columns = images[..., 1:-1], images[..., 1:-1, :]
    around = rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]
    return (around - 4 * rows[..., 1:-1, :]).square().flatten(1).mean(dim=1)
