"""The squared error of predictions. Shapes: B batch, [B, C, h, w] predictions."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.terms.floats import exact


def weighted_mse(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean over the batch of `weight * mean squared error` of a sample.

    Args:
        prediction: [B, C, h, w].
        target: [B, C, h, w]; no gradient goes into it.
        weights: [B].

    Returns:
        scalar.
    """
    error = (exact(prediction) - exact(target.detach())).square()
    return (weights * error.flatten(1).mean(dim=1)).mean()
