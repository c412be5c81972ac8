"""torch-fidelity, an optional package, and the way its networks are fed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from edgekd.errors import InputError
from edgekd.metrics.features import FloatArray
from edgekd.metrics.metric import Images

BATCH = 16


def check_installed(option: str) -> None:
    """Refuse an option whose package is missing, without importing it.

    Raises:
        InputError: torch-fidelity is not installed.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise InputError(
            f"`{option}` needs the package torch-fidelity",
            "no module named `torch_fidelity`",
            "Install it: pip install 'edgekd[fid]'",
        )


def fidelity_module(name: str) -> Any:
    """A module of torch-fidelity.

    It imports torchvision, which may only be possible after `edgekd.libraries`.
    """
    importlib.import_module("edgekd.libraries")
    return importlib.import_module(f"torch_fidelity.{name}")


def run_batched(network: Any, images: Images) -> FloatArray:
    """Rows of uint8 images [N,H,W,3] by a network that takes tensors [B,3,H,W] of them."""
    import torch

    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = np.stack(list(images[start : start + BATCH]))
            rows.append(network(torch.from_numpy(batch).permute(0, 3, 1, 2)).numpy())
    return np.asarray(np.concatenate(rows), dtype=np.float32)
