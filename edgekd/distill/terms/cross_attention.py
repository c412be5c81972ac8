"""Attention of pixels to the text: the student's against the teacher's."""

from __future__ import annotations

from functools import partial

from edgekd.distill.terms.attention_transfer import attention_layers, attention_transfer
from edgekd.distill.terms.term import Term

TERM = Term(
    "cross_attention",
    "cross-attention: the teacher's probabilities",
    needs_teacher=True,
    uses_prediction=False,
    value=attention_transfer,
    pairs=partial(attention_layers, kind="attn2"),
)
