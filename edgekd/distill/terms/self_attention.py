"""Attention of pixels to pixels: the student's against the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.distill.terms.attention_transfer import attention_transfer
from edgekd.distill.terms.term import TapPair, Term
from edgekd.student.arch import StudentArch
from edgekd.student.pairs import attention_pairs


def layers(arch: StudentArch, teacher_config: Mapping[str, Any]) -> list[TapPair]:
    """Every self-attention of the student, with the one that its weights came from."""
    pairs = attention_pairs(arch, teacher_config, "attn1")
    return [TapPair(ours, theirs) for theirs, ours in pairs]


TERM = Term(
    "self_attention",
    "self-attention: the teacher's probabilities",
    needs_teacher=True,
    uses_prediction=False,
    value=attention_transfer,
    pairs=layers,
)
