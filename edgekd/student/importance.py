"""Importance of single weights: what a narrower student is chosen by.

Both functions give one non-negative number per weight; `edgekd.student.mapping`
sums them over all weights that a channel touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")
Importance = Mapping[str, Tensor]


class _Magnitudes(Mapping[str, Tensor]):
    """Computed on access: most students of a large teacher ask for few tensors or none."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state

    def __getitem__(self, name: str) -> Tensor:
        return self._state[name].detach().float().abs()

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def magnitude_importance(state: Mapping[str, Tensor]) -> Importance:
    """`|w|`: the L1 criterion of Li et al., "Pruning Filters for Efficient ConvNets", 2017.

    Needs no data. Summing it over every layer that shares the channel is the group criterion
    of Fang et al., "DepGraph: Towards Any Structural Pruning", 2023.
    """
    return _Magnitudes(state)


def taylor_term(weight: Tensor, gradient: Tensor) -> Tensor:
    """`|w · ∂L/∂w|`: first-order change of the loss when the weight is set to zero.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, take it per
    weight; Fang et al., "Structural Pruning for Diffusion Models", 2023, sum it over timesteps.
    """
    return (weight.detach().float() * gradient.detach().float()).abs()


def taylor_importance(
    unet: nn.Module, loss: Callable[[Batch], Tensor], batches: Iterable[Batch]
) -> dict[str, Tensor]:
    """`Σ_batches |w · ∂L/∂w|` for every parameter of `unet`.

    Gradients are taken without touching `.grad` or `requires_grad` for good. Late timesteps
    are almost pure noise and blur the ranking: let the batches hold small timesteps.

    Args:
        loss: a batch to a scalar loss through `unet`.
        batches: consumed once; no batch gives an empty sum and is refused.

    Raises:
        ValueError: no batch, or a loss that is not a finite scalar.
    """
    parameters = dict(unet.named_parameters())
    frozen = [name for name, value in parameters.items() if not value.requires_grad]
    total = {
        name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()
    }
    seen = 0
    try:
        for name in frozen:
            parameters[name].requires_grad_(True)
        for batch in batches:
            _accumulate(total, parameters, loss, batch)
            seen += 1
    finally:
        for name in frozen:
            parameters[name].requires_grad_(False)
    if seen == 0:
        raise ValueError("`batches` must hold at least one batch, but got none")
    return total


def _accumulate(
    total: dict[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    loss: Callable[[Batch], Tensor],
    batch: Batch,
) -> None:
    with torch.enable_grad():
        value = loss(batch)
    if value.numel() != 1 or not torch.isfinite(value).all():
        raise ValueError(f"`loss` must return one finite number, but got {value!r}")
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    for (name, weight), gradient in zip(parameters.items(), gradients, strict=True):
        if gradient is not None:
            total[name] += taylor_term(weight, gradient)
