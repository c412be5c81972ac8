"""Checkpoints of a training run: whole or not there, and known by their content.

`checkpoints/step-00000100/` holds one safetensors file for each group of tensors, and the record
of their sizes and hashes. A checkpoint that a full disk, a cut copy
or a bad block has damaged is passed over for the newest one that is intact.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.file_record import damage, finish, read_record
from edgekd.files import writing
from edgekd.folders import atomic_folder, remove_folder
from edgekd.progress import Progress
from edgekd.training.log import METRICS_FILE
from edgekd.training.sharding import launched, local, part_for, placed_like, whole

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

CHECKPOINTS = "checkpoints"
KEPT = 2
# safetensors' letters for torch's types.
_KINDS = {"float": "F", "bfloat": "BF", "int": "I", "uint": "U"}
Tensors = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        step: number of finished optimiser steps.
        settings: what `Checkpoints.save` was given.
    """

    path: Path
    step: int
    settings: str

    def load(self, group: str) -> dict[str, Tensor]:
        """The tensors of one group, exactly as they were saved."""
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(self.path / _file_name(group))
        return tensors


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training run.

    Attributes:
        folder: holds nothing else.
        key: hash of what a run must share to go on from them.
    """

    folder: Path
    key: str

    def save(self, step: int, groups: Mapping[str, Tensors], settings: str = "") -> Checkpoint:
        """Write a checkpoint under its final name in one rename, then drop all but the last two.

        Later ones go too: they are damaged, or this run would not have come by here. Of sharded
        tensors the whole is written; meanwhile the other processes `gather` the same groups.

        Args:
            settings: hash of all that decides the run's result, where other settings may go on.

        Raises:
            InputError: the disk is full or not writable; earlier checkpoints stay.
        """
        final = self._place(step)
        with writing(final), atomic_folder(final) as temporary:
            for group, tensors in groups.items():
                _write(tensors, temporary / _file_name(group))
            finish(temporary, self.key, step=step, settings=settings, processes=launched())
        steps = sorted(self._steps())
        for other in {*steps} - {*[s for s in steps if s <= step][-KEPT:]}:
            remove_folder(self._place(other))
        return Checkpoint(final, step, settings)

    def latest(self, progress: Progress) -> Checkpoint | None:
        """The newest intact checkpoint of this key, or None; says which ones were passed over."""
        found, damaged = None, []
        for step in sorted(self._steps(), reverse=True):
            path = self._place(step)
            record = read_record(path)
            if record and record["key"] != self.key:
                continue
            if record and record.get("step") == step and not damage(path, record, thorough=True):
                found = Checkpoint(path, step, record["settings"])
                break
            damaged.append(path.name)
        if damaged:
            instead = f"step {found.step}" if found else "the start"
            progress.info(
                f"  damaged checkpoints in {self.folder}: {', '.join(damaged)}; "
                f"continuing from {instead}"
            )
        return found

    def records(self) -> Iterator[dict[str, Any]]:
        """Of all checkpoints, of whatever key."""
        for step in self._steps():
            if record := read_record(self._place(step)):
                yield record

    def clear(self) -> None:
        """Remove all of them; what is damaged, or not edgekd's, stays."""
        for step in list(self._steps()):
            remove_folder(self._place(step))
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _steps(self) -> Iterator[int]:
        """Steps that have a folder. Temporary folders of killed writers have other names."""
        for path in self.folder.glob("step-" + "[0-9]" * 8):
            if path.is_dir() and not path.is_symlink():
                yield int(path.name[5:])


def set_aside(folder: Path, progress: Progress) -> None:
    """Rename checkpoints that nothing can go on from, and their metrics: they may be hours of work.

    They are of another structure, or damaged.
    """
    checkpoints, metrics = folder / CHECKPOINTS, folder / METRICS_FILE
    if not checkpoints.is_dir():
        return
    number = 1
    while (other := folder / f"{CHECKPOINTS}.{number}").exists():
        number += 1
    if metrics.is_file():
        metrics.replace(metrics.with_stem(f"{metrics.stem}.{number}"))
    checkpoints.rename(other)
    progress.info(f"`{checkpoints}` cannot be continued from: kept as `{other.name}`")


def gather(groups: Mapping[str, Tensors]) -> None:
    """Take part in `Checkpoints.save` of sharded tensors, which the first process does."""
    for tensors in groups.values():
        for _, tensor in _in_order(tensors):
            whole(tensor)


def load_weights(parameters: Tensors, tensors: Tensors) -> None:
    """Copy saved tensors into parameters of the same names, sharded or not."""
    for name, parameter in parameters.items():
        local(parameter).copy_(part_for(parameter, tensors[name]))


def optimizer_tensors(
    parameters: Mapping[str, nn.Parameter], *optimizers: Optimizer
) -> dict[str, Tensor]:
    """What optimisers remember: `<optimiser>/<parameter>/<slot>` to tensor.

    Parameters that never had a gradient have no slots. A slot that is a whole number becomes an
    integer tensor.
    """
    import torch

    return {
        f"{type(optimizer).__name__}/{name}/{slot}": torch.as_tensor(value)
        for optimizer in optimizers
        for name, parameter in parameters.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizers(
    parameters: Mapping[str, nn.Parameter], tensors: Tensors, *optimizers: Optimizer
) -> None:
    """Give optimisers back what they remembered.

    What another optimiser has trained so far is new to the one that has the parameter now.
    """
    import torch

    for optimizer in optimizers:
        of_group = [p for group in optimizer.param_groups for p in group["params"]]
        numbers = {id(parameter): number for number, parameter in enumerate(of_group)}
        state: dict[int, dict[str, Any]] = {}
        for full_name, tensor in tensors.items():
            kind, name, slot = full_name.split("/")
            number = numbers.get(id(parameters[name]))
            if kind == type(optimizer).__name__ and number is not None:
                counted = tensor.dim() == 0 and tensor.dtype == torch.int64
                state.setdefault(number, {})[slot] = (
                    int(tensor) if counted else placed_like(parameters[name], tensor)
                )
        # load_state_dict puts each slot on the device and in the type that the optimiser needs.
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _file_name(group: str) -> str:
    return f"{group}.safetensors"


def _in_order(tensors: Tensors) -> list[tuple[str, Tensor]]:
    """As a file has them: each at a multiple of its element's size."""
    return sorted(tensors.items(), key=lambda item: -item[1].element_size())


def _write(tensors: Tensors, path: Path) -> None:
    """Write safetensors, one tensor at a time: those of a sharded model may not fit together."""
    import torch

    header, end = {}, 0
    for name, tensor in _in_order(tensors):
        kind, bits = str(tensor.dtype).removeprefix("torch."), 8 * tensor.element_size()
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": f"{_KINDS[kind.rstrip('0123456789')]}{bits}",
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in _in_order(tensors):
            values = whole(tensor.detach()).cpu().contiguous().reshape(-1)
            stream.write(values.view(torch.uint8).numpy().data)
        stream.flush()
        os.fsync(stream.fileno())
