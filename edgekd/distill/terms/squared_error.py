"""The squared error of predictions. Shapes: B batch, [B, C, h, w] predictions."""

from __future__ import annotations

from torch import Tensor


def weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over the batch of `weight * mean squared error` of a sample.

    Args:
        prediction: [B, C, h, w].
        target: [B, C, h, w]; no gradient goes into it.
        weights: [B].

    Returns:
        scalar.
    """
    error = (prediction.float() - target.detach().float()).square()
    return (weights * error.flatten(1).mean(dim=1)).mean()
