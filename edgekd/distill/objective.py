"""The loss of a training step: which terms there are and what each of them costs to compute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.noise_schedule import NoiseSchedule
from edgekd.diffusion.taps import Taps, TapValue, unwrap
from edgekd.distill.balance import Balance, initial_scales
from edgekd.distill.batches import Batch
from edgekd.distill.projections import project, projections_of
from edgekd.distill.terms.registry import check_hints, weighted_terms
from edgekd.distill.terms.term import Forward, TapPair, Tapped
from edgekd.recipe_losses import LossSection
from edgekd.student.arch import StudentArch
from edgekd.training.min_snr import min_snr_weights


def predict(unet: nn.Module, batch: Batch, autocast: torch.dtype | None) -> Tensor:
    """A U-Net's prediction [B, C, h, w] for a batch, in fp32 or under autocast."""
    device = batch.noisy_latents.device.type
    with torch.autocast(device, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        output: Tensor = unet(
            batch.noisy_latents,
            batch.timesteps,
            batch.encoder_hidden_states,
            timestep_cond=batch.timestep_cond,
            added_cond_kwargs=batch.added,
            return_dict=False,
        )[0]
    return output


@dataclass(frozen=True)
class Nets:
    """The two U-Nets, and how they correspond.

    Attributes:
        student: wrapped for several processes or not.
    """

    student: nn.Module
    teacher: Any
    arch: StudentArch


class Objective:
    """Context manager that computes the loss terms of batches.

    A term of weight 0 is not computed, and where no term needs the teacher it does not run.

    Args:
        losses: weights of the terms, and their options.
        schedule: on the U-Nets' device.
        autocast: type of the forward passes; None: fp32.

    Raises:
        InputError: see `get_term` and `check_hints`.
    """

    def __init__(
        self,
        nets: Nets,
        losses: LossSection,
        schedule: NoiseSchedule,
        autocast: torch.dtype | None,
    ) -> None:
        self._nets, self._schedule, self._autocast = nets, schedule, autocast
        self._losses = losses
        terms = weighted_terms(losses)
        hints = frozenset(term.name for term, _ in terms if not term.uses_prediction)
        weights = {term.name: weight for term, weight in terms}
        check_hints(losses)
        self._balance = Balance(weights, hints, losses.hints_until, {})
        config = dict(nets.teacher.config)
        self._terms = [(term, term.pairs(nets.arch, config)) for term, _ in terms]
        self._needs_teacher = any(term.needs_teacher for term, _ in terms)
        pairs = [pair for _, pairs in self._terms for pair in pairs]
        self._student_taps = Taps(nets.student, [*dict.fromkeys(p.student for p in pairs)])
        self._teacher_taps = Taps(nets.teacher, [*dict.fromkeys(p.teacher for p in pairs)])
        self._projections = projections_of(unwrap(nets.student))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Objective:
        self._stack.enter_context(self._teacher_taps)
        self._stack.enter_context(self._student_taps)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def calibrated(self, batches: Iterable[Batch]) -> Balance:
        """The terms' weights over a training that begins with the student as it is now.

        The batches must be the same in every process and in a resumed run.
        """
        if self._losses.balance != "initial":
            return self._balance
        with self, torch.no_grad():
            device = self._nets.teacher.device
            rows = [self.terms(batch.to(device)) for batch in batches]
        values = [{name: term.item() for name, term in row.items()} for row in rows]
        return replace(self._balance, scales=initial_scales(values))

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Raw value of each term that is on: scalars with gradients into the student."""
        prediction = predict(self._nets.student, batch, self._autocast)
        snr = self._schedule.snr(batch.timesteps)
        weights = min_snr_weights(snr, self._losses.min_snr_gamma, self._schedule.prediction_type)
        taught = None
        if self._needs_teacher:
            with torch.no_grad():
                taught = predict(self._nets.teacher, batch, self._autocast)
        seen = Forward(
            prediction, batch.target, weights, taught, choice=batch.choice, options=self._losses
        )
        return {
            term.name: term(replace(seen, tapped=self._tapped(pairs)))
            for term, pairs in self._terms
        }

    def _tapped(self, pairs: Sequence[TapPair]) -> list[Tapped]:
        return [
            Tapped(self._student_value(pair), self._teacher_taps[pair.teacher]) for pair in pairs
        ]

    def _student_value(self, pair: TapPair) -> TapValue:
        value = self._student_taps[pair.student]
        if pair.project and isinstance(value, Tensor):
            return project(self._projections, pair.student, value)
        return value


def total(terms: Mapping[str, Any], weights: Mapping[str, float]) -> Any:
    """Weighted sum of terms, of tensors or of numbers."""
    return sum(weights[name] * value for name, value in terms.items())
