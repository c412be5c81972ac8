"""The memory model of a dry run: what training holds, and what a micro-batch adds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.training.optimizer import MOMENT_BYTES

if TYPE_CHECKING:
    from edgekd.jobs.dry_run import DryRunSubject
    from edgekd.jobs.rehearsal import Rehearsal
    from edgekd.recipe_distill import PhaseName

_FP32_BYTES = 4
# fp32: weights, gradients, the average; what the optimiser keeps comes to it.
_STUDENT_BYTES = 3 * _FP32_BYTES
# Nothing is averaged.
_BESIDE_BYTES = 2 * _FP32_BYTES
# Autocast keeps a bf16 copy of the trained weights while an update lasts.
_CAST_BYTES = 2
# Python, its libraries, and the activations of one sample, which are not known yet.
_LEAST_FREE_BYTES = 2 * 2**30


def static_bytes(subject: DryRunSubject, phase: PhaseName) -> int:
    """Teacher, student and what learns beside it with all that training keeps of them, without
    any activation."""
    moments = MOMENT_BYTES[subject.recipe.distill.loop(phase).optimizer]
    student = subject.taught_parameters(phase) * (_STUDENT_BYTES + moments)
    beside = subject.beside_parameters(phase) * (_BESIDE_BYTES + moments)
    return subject.teacher_parameters * _FP32_BYTES + student + beside


def needed_bytes(subject: DryRunSubject, phase: PhaseName) -> int:
    """The least memory that a step takes."""
    learned = max(subject.taught_parameters(phase), subject.beside_parameters(phase))
    return static_bytes(subject, phase) + learned * _CAST_BYTES + _LEAST_FREE_BYTES


def step_bytes(subject: DryRunSubject, phase: PhaseName, rehearsal: Rehearsal) -> int:
    """A step of the recipe's micro-batch: what was held here, counted, + for the larger of the
    updates bf16 copies of its weights + what one sample needed beside all this, times the
    micro-batch."""
    step, batch_size = rehearsal.step, subject.recipe.distill.loop(phase).batch_size

    def working(weight_bytes: int, sample_bytes: int) -> int:
        autocast = rehearsal.precision == "bf16"
        casts = weight_bytes // _FP32_BYTES * _CAST_BYTES if autocast else 0
        return casts + max(0, sample_bytes - casts) * batch_size

    student = working(step.held.student, step.working_bytes)
    beside = subject.beside_parameters(phase) * _FP32_BYTES
    return step.held.total + max(student, working(beside, step.beside_working_bytes))
