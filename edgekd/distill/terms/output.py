"""The student's prediction against the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from edgekd.distill.terms.squared_error import weighted_mse
from edgekd.distill.terms.term import Forward, Pair
from edgekd.student.arch import StudentArch


class OutputTerm:
    """`E[w_t || e_t(x_t, t) - e_s(x_t, t) ||^2]` (BK-SDM, Kim et al. 2023, equation 2).

    With min-SNR weights, as the task.
    """

    name = "output"
    title = "output: teacher's prediction"
    needs_teacher = True
    uses_prediction = True

    def pairs(self, arch: StudentArch, teacher_config: Mapping[str, Any]) -> Sequence[Pair]:
        return ()

    def __call__(self, forward: Forward) -> Tensor:
        return weighted_mse(forward.prediction, forward.teacher_prediction, forward.weights)
