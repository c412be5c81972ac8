"""How far images are from others, differentiably. Shapes: images [N, 3, H, W] in [-1, 1]."""

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
