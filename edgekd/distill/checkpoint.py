"""Checkpoints of a distillation run: whole or not there, safetensors and a little JSON.

`checkpoints/step-00000100/` holds `student.safetensors` (the weights being trained),
`average.safetensors` (their moving average), `optimizer.safetensors` and `state.json`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.artifacts import atomic_folder, write_json
from edgekd.disk import writing

KEPT = 2
_STATE_FILE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        step: number of finished optimiser steps.
    """

    path: Path
    step: int


def save(
    folder: Path,
    key: str,
    step: int,
    student: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Checkpoint:
    """Write a checkpoint under its final name in one rename, then drop all but the last two.

    Raises:
        InputError: the disk is full or not writable; earlier checkpoints stay.
    """
    from safetensors.torch import save_file

    final = folder / f"step-{step:08d}"
    files: dict[str, dict[str, Any]] = {
        "student.safetensors": dict(student.named_parameters()),
        "average.safetensors": dict(average.named_parameters()),
        "optimizer.safetensors": _optimizer_tensors(student, optimizer),
    }
    with writing(final), atomic_folder(final) as temporary:
        for name, tensors in files.items():
            save_file({n: t.detach().contiguous() for n, t in tensors.items()}, temporary / name)
            _flush(temporary / name)
        write_json(temporary / _STATE_FILE, {"key": key, "step": step})
    for old in _all(folder)[:-KEPT]:
        shutil.rmtree(old.path)
    return Checkpoint(final, step)


def latest(folder: Path, key: str) -> Checkpoint | None:
    """The newest checkpoint of this key, or None."""
    matching = [c for c in _all(folder) if _read_state(c.path).get("key") == key]
    return matching[-1] if matching else None


def restore(
    checkpoint: Checkpoint,
    student: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Load weights, average and optimiser state, exactly as they were saved."""
    from safetensors.torch import load_file

    _load(student, load_file(checkpoint.path / "student.safetensors"))
    _load(average, load_file(checkpoint.path / "average.safetensors"))
    _load_optimizer(student, optimizer, load_file(checkpoint.path / "optimizer.safetensors"))


@torch.no_grad()
def _load(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[name])


def _optimizer_tensors(student: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`<parameter>.<slot>` to tensor. Parameters that never had a gradient have no slots."""
    return {
        f"{name}.{slot}": tensor
        for name, parameter in student.named_parameters()
        for slot, tensor in optimizer.state.get(parameter, {}).items()
    }


def _load_optimizer(
    student: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    slots: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        name, _, slot = full_name.rpartition(".")
        slots.setdefault(name, {})[slot] = tensor
    numbers = {id(p): n for n, p in enumerate(_parameters(optimizer))}
    state = {numbers[id(p)]: slots[n] for n, p in student.named_parameters() if n in slots}
    # load_state_dict puts each slot on the device and in the type that the optimiser needs.
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _all(folder: Path) -> list[Checkpoint]:
    """Checkpoints by step, oldest first. Temporary folders of killed writers have other names."""
    return [Checkpoint(p, int(p.name[5:])) for p in sorted(folder.glob("step-" + "[0-9]" * 8))]


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / _STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # not one of ours, or damaged: there may be an older one
    return state if isinstance(state, dict) else {}


def _flush(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
