"""Where the weights of a training are: whole in every process, or a part of each in every one.

`accelerate launch --use_fsdp --fsdp_version 2` asks for parts: torch's FSDP2 (`fully_shard`; Zhao
et al. 2023, "PyTorch FSDP", arXiv 2304.11277) cuts each weight along its first dimension, and with
it its gradient, its average and what the optimiser remembers. Weights of a layer are gathered for
its forward and for its backward pass. Every forward pass, and everything that wants a whole
tensor, is then a collective operation: all processes must do it, in the same order.

accelerate itself shards no model on CPUs, and on others only one together with its optimiser. So
it is not told of the wish (`quiet_launch`) and only joins the processes.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from edgekd.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_ASKED, _VERSION = "ACCELERATE_USE_FSDP", "FSDP_VERSION"
# What the launcher may say of how; `distill.gradient_checkpointing` stands in for the last.
_ONE_WAY = {
    _VERSION: "2",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
}


def rank() -> int:
    """This process's number in its launch."""
    return int(os.environ.get("RANK", "0"))


def launched() -> int:
    """Number of the processes of this launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded_launch() -> bool:
    """Whether there are several processes and their launcher asked for FSDP."""
    asked = os.environ.get(_ASKED, "false").lower() == "true"
    return asked and launched() > 1


def check_sharded_launch() -> None:
    """Raises InputError: the launcher asks for another FSDP than there is."""
    for name, only in _ONE_WAY.items():
        said = os.environ.get(name, "1" if name == _VERSION else only).lower()
        if said != only:
            hint = f"Use `accelerate launch --{name.lower()} {only}`."
            raise InputError(f"{name} must be {only}", said, hint)


@contextlib.contextmanager
def quiet_launch() -> Iterator[None]:
    """Without the launcher's wish for FSDP in the environment."""
    asked = os.environ.pop(_ASKED, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[_ASKED] = asked


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which this process may have a part only; then it is gathered from all."""
    gather: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, which shares its memory; without gradient history."""
    part: Callable[[], Tensor] | None = getattr(tensor.detach(), "to_local", None)
    return tensor.detach() if part is None else part()


def part_for(parameter: Tensor, tensor: Tensor) -> Tensor:
    """What of a whole tensor belongs to this process's part of a parameter: `torch.chunk`'s."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return tensor
    parts, rank = tensor.chunk(mesh.size()), mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else tensor[:0]


def placed_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor of a parameter's shape, sharded as the parameter is; others as they are."""
    import torch

    if not hasattr(parameter, "device_mesh") or tensor.shape != parameter.shape:
        return tensor
    placed = torch.zeros_like(parameter.detach())
    local(placed).copy_(part_for(parameter, tensor))
    return placed


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """`clip_grad_norm_` of parameters that may be sharded. Returns the norm before."""
    import torch
    from torch.distributed import all_reduce

    learned = list(parameters)
    if not hasattr(learned[0], "device_mesh"):
        return float(torch.nn.utils.clip_grad_norm_(learned, most))
    # The same through `DTensor` looks up every part's place, several times.
    parts = [local(parameter.grad) for parameter in learned if parameter.grad is not None]
    square = torch.stack(torch._foreach_norm(parts)).square().sum()
    all_reduce(square)
    norm = square.sqrt()
    torch._foreach_mul_(parts, (most / (norm + 1e-6)).clamp(max=1.0))
    return float(norm)


class Replicated:
    """Every process has all weights (DDP), or there is one process.

    Attributes:
        together: forward passes, and all that wants whole tensors, need every process.
    """

    together = False

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def train(self, model: nn.Module, alone: Iterable[nn.Module] = ()) -> nn.Module:
        """The model as it is called in training. Its parameters may be others afterwards.

        Args:
            alone: its modules that are also called outside of its own forward pass.
        """
        wrapped: nn.Module = self._accelerator.prepare_model(model)
        return wrapped

    def freeze(self, model: nn.Module) -> None:
        """Place a model that only predicts."""

    def duplicate(self, model: nn.Module) -> nn.Module:
        """Another one with the same weights, that only predicts, of what `train` was given."""
        return copy.deepcopy(model)

    def unshard(self, model: nn.Module) -> nn.Module:
        """A model of `train` or of `duplicate` with plain tensors; for the first process alone."""
        return model


class Sharded(Replicated):
    """Every process has a part of each weight (FSDP2).

    Layers that diffusers would not split (`_no_split_modules`) are gathered one by one. Gradients
    are reduced after every micro-batch: whole ones would stay in memory otherwise.
    """

    together = True

    def __init__(self, accelerator: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        super().__init__(accelerator)
        self._device = accelerator.device
        self._mesh: Any = init_device_mesh(self._device.type, (accelerator.num_processes,))
        self._outline: Any = None

    def train(self, model: nn.Module, alone: Iterable[nn.Module] = ()) -> nn.Module:
        self._outline = _outline(model)
        self._shard(model, alone)
        return model

    def freeze(self, model: nn.Module) -> None:
        self._shard(model)
        # torch (2.13) notes the order of layers for a backward pass, which never comes.
        if forget := getattr(model, "reset_iter_state", None):
            model.register_forward_hook(lambda *_: forget())

    def duplicate(self, model: nn.Module) -> nn.Module:
        """No process ever has it whole."""
        other: nn.Module = copy.deepcopy(self._outline)
        self.freeze(other)
        other.to_empty(device=self._device)
        for mine, theirs in zip(_tensors(other), _tensors(model), strict=True):
            local(mine).copy_(local(theirs))
        return other

    def unshard(self, model: nn.Module) -> nn.Module:
        """One tensor at a time is gathered and put into the host's memory."""
        first, state = self._accelerator.is_main_process, {}
        for name, tensor in model.state_dict().items():
            gathered = whole(tensor)
            if first:
                state[name] = gathered.cpu()
        if first:
            self._outline.load_state_dict(state, assign=True)
        found: nn.Module = self._outline
        return found

    def _shard(self, model: nn.Module, alone: Iterable[nn.Module] = ()) -> None:
        from torch.distributed.fsdp import fully_shard

        units = set(getattr(model, "_no_split_modules", None) or ())
        apart = {id(module) for module in alone}
        # Inner ones first: what they hold is no longer the outer one's.
        for module in reversed(list(model.modules())):
            if module is model or id(module) in apart or type(module).__name__ in units:
                # Of the model itself too: torch would use what its own layers gathered for a
                # prediction again, after their weights have changed.
                fully_shard(module, mesh=self._mesh, reshard_after_forward=True)


def make_sharing(accelerator: Any, small: bool = False) -> Replicated:
    """As the launcher asked.

    Args:
        small: the model is not worth sharing out.
    """
    return Sharded(accelerator) if sharded_launch() and not small else Replicated(accelerator)


def _outline(model: nn.Module) -> nn.Module:
    """A copy without memory: its parameters are on the meta device."""
    import torch

    empty = {
        id(parameter): torch.nn.Parameter(
            parameter.detach().to("meta"), requires_grad=parameter.requires_grad
        )
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, empty)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
