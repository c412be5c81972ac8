"""The student's prediction against the teacher's in two parts: a line fit, and what it leaves.

After LIFT and PLACE (Han, Yeo & Yoo 2026, arXiv 2605.19729). A student of a hundredth of the
teacher's size cannot follow it everywhere, and a plain squared error asks for everything at
once. Here the coarse part (offset and contrast of the prediction) comes first, and the rest gets
its weight as the coarse part is learned.

Shapes: B batch, G groups, E elements of a sample, [B, G, e] with e = E / G elements of a group.
"""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.terms.floats import exact
from edgekd.distill.terms.term import Forward, Term
from edgekd.errors import InputError

EPSILON = 1e-8


def check_groups(elements: int, groups: int) -> None:
    """Raises InputError: a prediction's elements cannot be cut into groups of equal size."""
    if elements % groups:
        raise InputError(
            f"`distill.losses.lift_groups` must divide the {elements} elements of a prediction",
            str(groups),
        )


def group_by_error(student: Tensor, teacher: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Each sample's elements, sorted by `|e_T - e_S|` and cut into parts of equal size.

    PLACE: errors differ from place to place, and one line does not fit all of them. The paper
    groups by the size of the error; that the groups have equal sizes is ours.

    Args:
        student: [B, E].
        teacher: [B, E].
        groups: E must be a multiple of it.

    Returns:
        both as [B, G, E / G].

    Raises:
        InputError: see `check_groups`.
    """
    batch, elements = student.shape
    check_groups(elements, groups)
    order = (teacher - student).detach().abs().argsort(dim=1, stable=True)
    shape = (batch, groups, elements // groups)
    return student.gather(1, order).view(shape), teacher.gather(1, order).view(shape)


def fit(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of `e_T = b0 + b1 e_S`, per group.

    Args:
        student: [B, G, e].
        teacher: [B, G, e].

    Returns:
        b0 and b1, [B, G, 1], with gradients into the student.
    """
    ours, theirs = (x - x.mean(dim=2, keepdim=True) for x in (student, teacher))
    variance = ours.square().mean(dim=2, keepdim=True)
    slope = (ours * theirs).mean(dim=2, keepdim=True) / (variance + EPSILON)
    offset = teacher.mean(dim=2, keepdim=True) - slope * student.mean(dim=2, keepdim=True)
    return offset, slope


def parts(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse and fine loss of each group.

    `L_coarse = |b0| + |b1 - 1|`, `L_fine = E[(e_T - (b0 + b1 e_S))^2]`.

    Args:
        student: [B, G, e].
        teacher: [B, G, e].

    Returns:
        [B, G] each.
    """
    offset, slope = fit(student, teacher)
    coarse = offset.abs() + (slope - 1).abs()
    fine = (teacher - (offset + slope * student)).square().mean(dim=2)
    return coarse.squeeze(2), fine


def lift(student: Tensor, teacher: Tensor, groups: int = 1) -> Tensor:
    """`L_coarse + w L_fine` with `w = 1 - min(1, L_coarse)`, mean over groups and batch.

    w is a weight and no target: no gradient goes into it, as else a large fine loss would pay
    for a bad fit.

    Args:
        student: [B, C, h, w].
        teacher: [B, C, h, w]; no gradient goes into it.
        groups: 1: LIFT; more: PLACE.

    Returns:
        scalar.
    """
    ours, theirs = exact(student).flatten(1), exact(teacher.detach()).flatten(1)
    coarse, fine = parts(*group_by_error(ours, theirs, groups))
    weight = 1 - coarse.detach().clamp(max=1)
    return (coarse + weight * fine).mean()


def value(forward: Forward) -> Tensor:
    """`lift` of the predictions. Its own weight takes the place of min-SNR's."""
    return lift(forward.prediction, forward.teacher_prediction, forward.options.lift_groups)


TERM = Term(
    "output_lift",
    "output, line fit first (LIFT)",
    needs_teacher=True,
    uses_prediction=True,
    value=value,
)
