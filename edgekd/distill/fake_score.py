"""A denoiser of a student's own pictures, in training beside the student."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.batches import Batch
from edgekd.distill.objective import predict
from edgekd.distill.setup import PhaseSetup
from edgekd.distill.trainer import rate_schedule
from edgekd.training.checkpoint import load_optimizers, load_weights, optimizer_tensors
from edgekd.training.optimizer import make_optimizer
from edgekd.training.sharding import clip_gradients, make_sharing

_WEIGHTS = "weights/"


class FakeScore:
    """A copy of the teacher's U-Net that learns from batches of the student's pictures.

    It has the student's learning rate, and an optimiser of its own.

    Args:
        accelerator: of accelerate, without mixed precision.

    Attributes:
        unet: what learns.
    """

    def __init__(self, setup: PhaseSetup, accelerator: Any) -> None:
        self.unet = copy.deepcopy(setup.sources.teacher.unet).requires_grad_(True)
        if setup.section.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self._wrapped: nn.Module = make_sharing(accelerator).train(self.unet)
        settings = setup.section.few_step
        self._rates, self._autocast = rate_schedule(settings), setup.autocast
        self._max_grad_norm = settings.max_grad_norm
        self._optimizer = make_optimizer(settings, self.unet.parameters(), setup.device)
        self._accelerator = accelerator

    def update(self, micro_batches: Sequence[Batch], step: int) -> Tensor:
        """One update in the student's step `step`. Returns the loss, a scalar without gradient."""
        self._optimizer.zero_grad(set_to_none=True)
        *firsts, last = micro_batches
        with self._accelerator.no_sync(self._wrapped):
            losses = [self._micro_batch(batch, len(micro_batches)) for batch in firsts]
        losses.append(self._micro_batch(last, len(micro_batches)))
        clip_gradients(self.unet.parameters(), self._max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rates.at(step)
        self._optimizer.step()
        return torch.stack(losses).mean()

    def _micro_batch(self, batch: Batch, count: int) -> Tensor:
        """Add the gradients of one of `count` micro-batches. Returns its loss."""
        prediction = predict(self._wrapped, batch, self._autocast).float()
        loss = nn.functional.mse_loss(prediction, batch.target)
        self._accelerator.backward(loss / count)
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """The weights, and what the optimiser remembers."""
        parameters = dict(self.unet.named_parameters())
        weights = {_WEIGHTS + name: parameter for name, parameter in parameters.items()}
        return {**weights, **optimizer_tensors(parameters, self._optimizer)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`."""
        parameters = dict(self.unet.named_parameters())
        load_weights(parameters, {name: state[_WEIGHTS + name] for name in parameters})
        slots = {name: slot for name, slot in state.items() if not name.startswith(_WEIGHTS)}
        load_optimizers(parameters, slots, self._optimizer)
