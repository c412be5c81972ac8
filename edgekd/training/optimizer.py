"""The optimisers that a recipe may name: the one place that makes those of distillation."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgekd.errors import InputError
from edgekd.recipe_distill import LoopSection

if TYPE_CHECKING:
    import torch

EIGHT_BIT = "adamw_8bit"
_PACKAGE = "bitsandbytes"
_BETA1 = 0.9
# What an optimiser keeps of a parameter beside the weight itself: Adam's two moments.
MOMENT_BYTES = {"adamw": 2 * 4, EIGHT_BIT: 2 * 1}


def check_optimizers(loops: Iterable[LoopSection]) -> None:
    """Refuse an optimiser whose package is not there.

    Raises:
        InputError: the message names the command that installs it.
    """
    for loop in loops:
        if loop.optimizer == EIGHT_BIT and importlib.util.find_spec(_PACKAGE) is None:
            raise InputError(
                f"the package of `optimizer: {EIGHT_BIT}` must be installed",
                f"no module named `{_PACKAGE}`",
                "Install it: pip install 'edgekd[8bit]', or take `optimizer: adamw`.",
            )


def make_optimizer(
    loop: LoopSection, parameters: Iterable[Any], device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser of a loop, at its full learning rate.

    `adamw` is torch's, in one kernel for all parameters where torch has one. `adamw_8bit` keeps
    the two moments of tensors of 4,096 elements and more in 8 bits, a scale for each 256 of them
    (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861).

    Raises:
        InputError: see `check_optimizers`.
    """
    import torch

    settings: dict[str, Any] = {
        "lr": loop.learning_rate,
        "weight_decay": loop.weight_decay,
        "betas": (_BETA1, loop.adam_beta2),
    }
    if loop.optimizer == EIGHT_BIT:
        check_optimizers([loop])
        optimizer: torch.optim.Optimizer
        optimizer = importlib.import_module(f"{_PACKAGE}.optim").AdamW8bit(parameters, **settings)
        return optimizer
    return torch.optim.AdamW(parameters, **settings, fused=device.type in ("cpu", "cuda"))
