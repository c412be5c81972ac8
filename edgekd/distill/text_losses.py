"""Losses of a text encoder against its teacher, as pure functions.

Shapes: B captions, L tokens, [B, L, D] embeddings. Every position counts, those behind a caption's
end too: the U-Net attends to all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def variance(embeddings: Tensor) -> Tensor:
    """Of each channel over captions and tokens, mean over channels: a number."""
    return (embeddings - embeddings.mean(dim=(0, 1))).square().mean()


def unexplained(embeddings: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """`||e - e_T||^2 / (L D spread)` of each caption, [B].

    With the teacher's variance as the spread, it is the share of it that is left.
    """
    error = (embeddings - target.detach()).square().mean(dim=(1, 2))
    return error / (spread + torch.finfo(target.dtype).eps)


def angle(embeddings: Tensor, target: Tensor) -> Tensor:
    """One less the cosine of an embedding with its teacher's, mean over the tokens, [B]."""
    return (1 - torch.cosine_similarity(embeddings, target.detach(), dim=-1)).mean(dim=1)
