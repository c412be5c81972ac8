"""Noise prediction against the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from edgekd.distill.terms.squared_error import weighted_mse
from edgekd.distill.terms.term import Forward, Pair
from edgekd.student.arch import StudentArch


class TaskTerm:
    """`E[w_t || e - e_s(x_t, t) ||^2]` (Ho et al. 2020, equation 14), with min-SNR weights."""

    name = "task"
    title = "task: noise prediction"
    needs_teacher = False
    uses_prediction = True

    def pairs(self, arch: StudentArch, teacher_config: Mapping[str, Any]) -> Sequence[Pair]:
        return ()

    def __call__(self, forward: Forward) -> Tensor:
        return weighted_mse(forward.prediction, forward.target, forward.weights)
