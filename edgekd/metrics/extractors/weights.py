"""Weights that users give: found, hashed, and read without unpickling."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.files import hash_file, hash_tree

# Of a hash, so much stands in the names of metrics.
SHORT = 8


def hash_weights(path: Path, option: str) -> str:
    """SHA-256 (hex) of a file or of a folder's files.

    Args:
        option: of the command line, named in the error.

    Raises:
        InputError: nothing is there.
    """
    if not path.exists():
        raise InputError(f"`{option}` must exist", str(path))
    return hash_tree(path) if path.is_dir() else hash_file(path)


def read_state(path: Path, option: str) -> dict[str, Any]:
    """Tensors by name, of a `.safetensors` file or of torch's own format.

    Raises:
        InputError: it holds anything but tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    rule = f"`{option}` must be a file of tensors; other pickled objects are never loaded"
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(rule, f"{path} ({first[0]})") from None
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise InputError(rule, f"{path} ({type(state).__name__})")
    return state
