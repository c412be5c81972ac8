"""Muon: matrices step along their orthogonalised momentum.

After Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the step size of Liu et al. 2025
(arXiv:2502.16982), which makes a learning rate of AdamW fit. Unlike `torch.optim.Muon` it takes
convolutions, shares the matrices among the ranks, and iterates on the small Gram matrices: the
kernels of a U-Net are three to nine times as wide as high.

Shapes: a parameter [O,...] is the matrix [O,I]; m = min(O,I), n = max(O,I).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgekd.teach.ranks import Ranks

MOMENTUM = 0.95
# Jordan's quintic: steepest at 0, and within 0.3 of 1 after five steps wherever it began.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Root mean square of an AdamW update, which an update of Muon is scaled to.
UPDATE_RMS = 0.2
TINY = 1e-7


def orthogonalized(matrices: Tensor) -> Tensor:
    """U V^T of each matrix U S V^T, with singular values near 1 instead of at 1; [K,m,n], m <= n.

    Newton-Schulz: X <- p(X X^T) X with p(G) = a I + b G + c G^2. The factors are polynomials of
    one Gram matrix, so they commute, and only their product meets the wide matrix.
    """
    a, b, c = COEFFICIENTS
    wide = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + TINY)
    gram = wide @ wide.mT
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product = factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * identity
        product = factor @ product
    result: Tensor = product @ wide
    return result


class Muon(torch.optim.Optimizer):
    """Muon for all its parameters, the same on all ranks; `lr` is what AdamW would have."""

    def __init__(self, groups: Sequence[dict[str, Any]], weight_decay: float, ranks: Ranks) -> None:
        super().__init__(list(groups), {"lr": 0.0, "weight_decay": weight_decay})
        self._ranks = ranks
        parameters = [p for group in self.param_groups for p in group["params"]]
        self._own = _share([matrix_shape(p) for p in parameters], ranks)
        # One buffer for all updates: a single exchange per step.
        sizes = [p.numel() for p in parameters]
        self._updates = torch.zeros(sum(sizes), device=parameters[0].device)
        parts = torch.split(self._updates, sizes)
        self._views = [x.view_as(p) for x, p in zip(parts, parameters, strict=True)]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step by the parameters' gradients, which all ranks hold."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
        self._updates.zero_()
        for numbers in self._own:
            # Nesterov's look ahead.
            ahead = [
                parameters[k].grad.lerp(self.state[parameters[k]]["momentum_buffer"], MOMENTUM)
                for k in numbers
            ]
            matrices = torch.stack([_wide(x.flatten(1)) for x in ahead])
            scale = UPDATE_RMS * matrices.shape[2] ** 0.5
            for k, update in zip(numbers, orthogonalized(matrices) * scale, strict=True):
                view = self._views[k].flatten(1)
                view.copy_(update if view.shape == update.shape else update.mT)
        self._ranks.average(self._updates)
        start = 0
        for group in self.param_groups:
            chosen = group["params"]
            views = self._views[start : start + len(chosen)]
            torch._foreach_mul_(chosen, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(chosen, views, alpha=-group["lr"] * self._ranks.count)
            start += len(chosen)


def matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """(m, n) of a parameter's matrix."""
    rows, columns = parameter.shape[0], parameter[0].numel()
    return min(rows, columns), max(rows, columns)


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def _share(shapes: Sequence[tuple[int, int]], ranks: Ranks) -> list[list[int]]:
    """This rank's matrices, those of one shape together; the work is about equal on all ranks."""
    numbers: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        numbers[shape].append(number)
    work = [0] * ranks.count
    own = []
    for (m, n), members in sorted(numbers.items(), reverse=True):
        mine = []
        for number in members:
            rank = work.index(min(work))
            work[rank] += m * m * (2 * n + 4 * ITERATIONS * m)
            if rank == ranks.rank:
                mine.append(number)
        if mine:
            own.append(mine)
    return own
