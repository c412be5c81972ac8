"""Losses of a text encoder against its teacher, as pure functions.

Shapes: B captions, L tokens, [B, L, D] embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unexplained(embeddings: Tensor, target: Tensor) -> Tensor:
    """`||e - e_T||^2 / ||e_T - mean(e_T)||^2`: what is left of the teacher's variance.

    The mean is over captions and tokens, of each channel. Every position counts, those behind the
    caption's end too: the U-Net attends to all of them.
    """
    target = target.detach()
    spread = (target - target.mean(dim=(0, 1))).square().mean()
    return (embeddings - target).square().mean() / (spread + torch.finfo(target.dtype).eps)


def angle(embeddings: Tensor, target: Tensor) -> Tensor:
    """One less the cosine of each position's embedding with its teacher's, mean over positions."""
    return (1 - torch.cosine_similarity(embeddings, target.detach(), dim=-1)).mean()
