"""What a search looks at: a student with the way it is drawn, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pydantic import Field

from edgekd.errors import InputError
from edgekd.files import hash_value
from edgekd.recipe import Recipe, StudentSection
from edgekd.recipe_distill import DistillSection, PhaseName
from edgekd.schema import Section, validate
from edgekd.student.arch import StudentArch


class Candidate(Section):
    """A student of one teacher on one target.

    Two candidates that draw alike are equal: nothing in here is without effect.
    """

    arch: StudentArch = Field(..., description="with every field explicit")
    decoder_width: float = Field(
        ..., gt=0, le=1, description="share of the VAE's channels that stays; 1: the teacher's own"
    )
    steps: int = Field(..., ge=1, description="denoising steps of a picture")
    precision: str = Field(..., description="of the target's runtime")
    intact: bool = Field(
        False,
        description="its U-Net predicts as its teacher's before any training: `kd` has nothing to "
        "restore",
    )

    def key(self) -> str:
        """Hash of what it is, not of what is known of it."""
        return hash_value(self.model_dump(exclude={"intact"}))


class FrontPoint(Candidate):
    """A candidate as a front's file keeps it, for `edgekd distill --student`."""

    found: str = Field("", description="how it was found, as its student's card says it")


@dataclass(frozen=True)
class Cost:
    """What a candidate's picture costs on the target.

    Attributes:
        latency_ms: of a whole picture: text encoder, all denoising passes, decoder.
        size_bytes: of the exported parts that draw it.
        peak_bytes: resident memory of the process that draws it.
    """

    latency_ms: float
    size_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Scored:
    """A candidate with its cost and its expected quality.

    Attributes:
        quality: share of the teacher's quality that it is expected to keep, in (0, 1].
        measured: whether the cost was measured on the whole graphs, or predicted from blocks.
    """

    candidate: Candidate
    cost: Cost
    quality: float
    measured: bool = False


def check_decoder_kind(section: DistillSection) -> None:
    """Raises InputError: decoders of another kind than a candidate's width is of."""
    if section.decoder.kind != "kl":
        raise InputError(
            "`distill.decoder.kind` must be kl where a search decides the decoder's width",
            section.decoder.kind,
            "Name the student (`student.preset`, `student.arch`): it is not searched then.",
        )


def with_candidate(recipe: Recipe, candidate: Candidate) -> Recipe:
    """The recipe that distils this student and no other.

    Raises:
        InputError: see `check_decoder_kind`.
    """
    check_decoder_kind(recipe.distill)
    left_out: set[PhaseName] = set()
    if candidate.intact and "few_step" in recipe.distill.phases:
        left_out.add("kd")
    asked, decoder = {*recipe.distill.phases, "decoder"}, recipe.distill.decoder
    if candidate.decoder_width == 1:
        left_out.add("decoder")
    else:
        decoder = decoder.model_copy(update={"width": candidate.decoder_width})
    few_step = recipe.distill.few_step.model_copy(update={"student_steps": candidate.steps})
    phases = [name for name in get_args(PhaseName) if name in asked - left_out]
    taught = {"phases": phases, "few_step": few_step, "decoder": decoder}
    return recipe.model_copy(
        update={
            "student": StudentSection(arch=candidate.arch.model_dump()),
            "distill": recipe.distill.model_copy(update=taught),
            "export": recipe.export.model_copy(update={"deploy": candidate.precision}),
        }
    )


def with_given_student(recipe: Recipe) -> Recipe:
    """The recipe with what follows from a `student.candidate`, if it has one.

    Raises:
        InputError: it is no candidate; or see `with_candidate`.
    """
    given = _given(recipe)
    return recipe if given is None else with_candidate(recipe, given)


def how_found(recipe: Recipe) -> str:
    """What the card of a recipe's `student.candidate` says of the search that it is from.

    Raises:
        InputError: it is no candidate.
    """
    given = _given(recipe)
    return "" if given is None else given.found


def _given(recipe: Recipe) -> FrontPoint | None:
    values = recipe.student.candidate
    return None if values is None else validate(FrontPoint, values, "`student.candidate`")
