"""A candidate in a few words, against its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.progress import counted
from edgekd.search.candidate import Candidate
from edgekd.student.plan import Pair, StudentPlan, plan_student

_NUMBERS = ("no", "one", "two", "three", "four")
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def describe(candidate: Candidate, unet_config: Mapping[str, Any]) -> str:
    """As in "2 steps, one pair in stage 2, no mid block, decoder 0.5, int8".

    Only what differs from the teacher is named.
    """
    plan = plan_student(candidate.arch, unet_config)
    parts = [counted(candidate.steps, "step")]
    parts += _unet_words(plan) or ["the whole U-Net"]
    if candidate.decoder_width < 1:
        parts.append(f"decoder {candidate.decoder_width:g}")
    return ", ".join([*parts, candidate.precision])


def _unet_words(plan: StudentPlan) -> list[str]:
    stages, teacher = plan.stages, plan.teacher
    words = []
    if len(stages) < teacher.stages:
        words.append(f"{len(stages)} of {teacher.stages} stages")
    said = [_stage_words(plan, s) for s in range(len(stages))]
    for text in dict.fromkeys(text for texts in said for text in texts):
        places = [s for s, texts in enumerate(said) if text in texts]
        words.append(f"{text} in {_places(places, len(stages))}")
    if plan.mid is None and teacher.mid is not None:
        words.append("no mid block")
    elif plan.mid is not None and teacher.mid is not None and len(plan.mid) < teacher.mid:
        words.append(f"{len(plan.mid)} of {teacher.mid} transformer blocks in the mid block")
    return words


def _stage_words(plan: StudentPlan, s: int) -> list[str]:
    """What a stage lacks."""
    stage, teacher = plan.stages[s], plan.teacher
    words = []
    pairs = len(stage.down)
    if pairs < len(teacher.down[s]):
        number = _NUMBERS[pairs] if pairs < len(_NUMBERS) else str(pairs)
        words.append(f"{number} pair{'s' if pairs != 1 else ''}")
    if teacher.has_attention(s) and not stage.attends:
        words.append("no attention")
    elif stage.attends:
        kept, whole = _blocks(stage.down, teacher.down[s]), _blocks(stage.up, teacher.up[s])
        if (total := kept[1] + whole[1]) > (left := kept[0] + whole[0]):
            words.append(f"{left} of {total} transformer blocks")
    if stage.width < teacher.widths[s]:
        words.append(f"{stage.width} of {teacher.widths[s]} channels")
    return words


def _blocks(pairs: Sequence[Pair], depths: Sequence[int]) -> tuple[int, int]:
    """Transformer blocks of the kept pairs: kept, and the teacher's."""
    return sum(len(pair.blocks) for pair in pairs), sum(depths[pair.index] for pair in pairs)


def _places(stages: Sequence[int], count: int) -> str:
    if len(stages) == count > 1:
        return "every stage"
    if len(stages) == 1:
        return f"stage {stages[0]}"
    *first, last = map(str, stages)
    return f"stages {', '.join(first)} and {last}"


def milliseconds_text(value: float) -> str:
    """Three significant digits: `45.2 ms`, `905 ms`, `0.0123 ms`."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def bytes_text(value: float) -> str:
    """In decimal units: `210 MB`."""
    for unit, name in _UNITS:
        if value >= unit:
            amount = value / unit
            return f"{amount:.0f} {name}" if amount >= 100 else f"{amount:.3g} {name}"
    return f"{value:.0f} B"
