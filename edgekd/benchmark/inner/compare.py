"""What two U-Nets did with the same inputs, compared in figures and in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.benchmark.inner.question import Pairing, Seen
from edgekd.benchmark.nearness import fitting_neighbours, nearness
from edgekd.benchmark.projection import projections
from edgekd.metrics.metric import Floats
from edgekd.report.features_schema import (
    AttentionMap,
    BlockAgreement,
    BlockProjection,
    Embeddings,
    Projection,
)
from edgekd.student.pairs import BlockPair

_DECIMALS = 4


def compare(
    names: tuple[str, str],
    timesteps: tuple[int, ...],
    pairing: Pairing,
    seen: tuple[Seen, Seen],
) -> Embeddings:
    """The teacher's and the student's inner features, and where they look.

    Args:
        names: of the teacher's row and the student's.
        seen: in the teacher and in the student.

    Raises:
        InputError: a block whose features are the same for all inputs.
    """
    teacher, student = seen
    middle = len(timesteps) // 2
    samples = next(iter(teacher.features.values())).shape[1]
    return Embeddings(
        teacher=names[0],
        student=names[1],
        samples=samples,
        neighbours=fitting_neighbours(samples),
        agreement=[
            BlockAgreement(
                block=_name(pair.teacher, pair.student),
                timestep=timestep,
                **nearness(
                    teacher.features[pair.teacher][t], student.features[pair.student][t]
                ).model_dump(),
            )
            for pair in pairing.blocks
            for t, timestep in enumerate(timesteps)
        ],
        teacher_blocks=list(pairing.teacher_blocks),
        student_blocks=list(pairing.student_blocks),
        cross=_cross(
            [teacher.features[point][middle] for point in pairing.teacher_blocks],
            [student.features[point][middle] for point in pairing.student_blocks],
        ),
        blocks=[
            BlockProjection(
                block=_name(pair.teacher, pair.student),
                timestep=timesteps[middle],
                projections=_projections(
                    names,
                    teacher.features[pair.teacher][middle],
                    student.features[pair.student][middle],
                ),
            )
            for pair in shown_blocks(pairing.blocks)
        ],
        attention=_attention(timesteps[middle], pairing.attention, teacher, student),
    )


def _name(teacher: str, student: str) -> str:
    return teacher if teacher == student else f"{teacher} (student's {student})"


def _cross(teacher: Sequence[Floats], student: Sequence[Floats]) -> list[list[float]]:
    from edgekd.metrics.embeddings import linear_cka

    return [[round(linear_cka(x, y), _DECIMALS) for y in student] for x in teacher]


def shown_blocks(pairs: Sequence[BlockPair]) -> list[BlockPair]:
    """The first on the way down, the innermost, the last on the way up."""
    innermost = [pair for pair in pairs if not pair.teacher.startswith("up_blocks")][-1:]
    return list(dict.fromkeys([pairs[0], *innermost, pairs[-1]]))


def _projections(names: tuple[str, str], teacher: Floats, student: Floats) -> list[Projection]:
    """Both sets in one space: their own where they are equally wide."""
    from edgekd.metrics.embeddings import turned_onto

    note = ""
    if teacher.shape[1] != student.shape[1]:
        note = (
            f" (the student's {student.shape[1]} channels turned onto the teacher's "
            f"{teacher.shape[1]} by Procrustes)"
        )
        teacher, student = (np.asarray(x, np.float32) for x in turned_onto(teacher, student))
    return projections(dict(zip(names, (teacher, student), strict=True)), seed=0, note=note)


def _attention(
    timestep: int, points: tuple[str, str] | None, teacher: Seen, student: Seen
) -> list[AttentionMap]:
    if points is None:
        return []
    theirs, ours = points
    drawn = {(one.caption, one.word): one.map.tolist() for one in student.maps if one.point == ours}
    return [
        AttentionMap(
            block=_name(theirs, ours),
            timestep=timestep,
            caption=one.caption,
            word=one.word,
            teacher=one.map.tolist(),
            student=drawn[one.caption, one.word],
        )
        for one in teacher.maps
        if one.point == theirs and (one.caption, one.word) in drawn
    ]
