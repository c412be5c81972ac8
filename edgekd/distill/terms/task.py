"""Noise prediction against the ground truth."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.terms.squared_error import weighted_mse
from edgekd.distill.terms.term import Forward, Term


def task(forward: Forward) -> Tensor:
    """`E[w_t || e - e_s(x_t, t) ||^2]` (Ho et al. 2020, equation 14), with min-SNR weights."""
    return weighted_mse(forward.prediction, forward.target, forward.weights)


TERM = Term("task", "task: noise prediction", needs_teacher=False, uses_prediction=True, value=task)
