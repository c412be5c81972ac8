"""The student's prediction against the teacher's."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.terms.squared_error import weighted_mse
from edgekd.distill.terms.term import Forward, Term


def output(forward: Forward) -> Tensor:
    """`E[w_t || e_t(x_t, t) - e_s(x_t, t) ||^2]`, with min-SNR weights.

    Output KD (BK-SDM, Kim et al. 2023, equation 2).
    """
    return weighted_mse(forward.prediction, forward.teacher_prediction, forward.weights)


TERM = Term(
    "output", "output: teacher's prediction", needs_teacher=True, uses_prediction=True, value=output
)
