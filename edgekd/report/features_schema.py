"""What a report says of features: of pictures, and inside the networks."""

from __future__ import annotations

from edgekd.report.part import Points, ReportPart


class Projection(ReportPart):
    """Features in two dimensions, by set, all in one basis.

    Attributes:
        method: `PCA` or `t-SNE`.
        seed, perplexity: of t-SNE.
        explained: share of the variance along each axis of PCA.
    """

    method: str
    points: dict[str, Points]
    seed: int | None = None
    perplexity: float | None = None
    explained: tuple[float, float] | None = None


class Likeness(ReportPart):
    """Figures of two feature sets.

    Attributes:
        cka: linear CKA.
        knn_overlap: share of each input's nearest neighbours that both sets agree on.
        procrustes: distance after the best rotation, shift and scale, in [0,1].
    """

    cka: float
    knn_overlap: float
    procrustes: float


class Nearness(Likeness):
    """How alike two feature sets of the same inputs are, in all their dimensions.

    Attributes:
        chance: the same figures where one set's inputs are shuffled: few inputs of many
            dimensions look alike in CKA and after a rotation even where nothing is.
    """

    chance: Likeness | None = None


class BlockAgreement(Nearness):
    """Teacher and student at one tapped block and timestep."""

    block: str
    timestep: int


class BlockProjection(ReportPart):
    """Both models' features of one block in one basis."""

    block: str
    timestep: int
    projections: list[Projection]


class AttentionMap(ReportPart):
    """Where both models look for one word, mean over heads: [h,w], each with maximum 1."""

    block: str
    timestep: int
    caption: str
    word: str
    teacher: list[list[float]]
    student: list[list[float]]


class Embeddings(ReportPart):
    """A student's inner features against the teacher's, from the same noisy latents and captions.

    Attributes:
        teacher, student: rows.
        samples: inputs of each timestep.
        neighbours: of `knn_overlap`.
        cross: linear CKA of each of the teacher's blocks (rows) with each of the student's
            (columns) at the middle timestep; `blocks` names both.
    """

    teacher: str
    student: str
    samples: int
    neighbours: int
    agreement: list[BlockAgreement]
    teacher_blocks: list[str]
    student_blocks: list[str]
    cross: list[list[float]]
    blocks: list[BlockProjection]
    attention: list[AttentionMap]
