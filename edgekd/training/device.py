"""Where a process works when it is not in a training loop, whose device accelerate chooses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def own_device() -> torch.device:
    """The device that accelerate would choose for this process, of GPUs and the CPU."""
    import torch
    from accelerate.utils import parse_flag_from_env

    asked = os.environ.get("ACCELERATE_TORCH_DEVICE")
    if asked:
        return torch.device(asked)
    if torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU"):
        number = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", number % torch.cuda.device_count())
    return torch.device("cpu")
