"""Loss terms by name, found through the entry points `edgekd.terms`."""

from __future__ import annotations

from collections.abc import Collection

from edgekd.distill.terms.term import Term
from edgekd.entries import TERMS, entries
from edgekd.errors import InputError
from edgekd.recipe_losses import LossSection


def get_term(name: str) -> Term:
    """Import one term.

    Raises:
        InputError: unknown name, two terms of one name, or an entry point that leads to no term
            of its name.
    """
    known = entries(TERMS)
    if name not in known:
        raise InputError(f"the loss term must be one of {', '.join(known) or '(none)'}", repr(name))
    term = known[name].load()
    if not isinstance(term, Term) or term.name != name:
        raise InputError(
            f"the entry point `{name}` of `{TERMS}` must lead to a Term of that name",
            known[name].value,
        )
    return term


def weighted_terms(losses: LossSection) -> list[tuple[Term, float]]:
    """The terms that are on, with their weights, in the recipe's order. Raises as `get_term`."""
    return [(get_term(name), weight) for name, weight in losses.weights.items()]


def needs_teacher(losses: LossSection) -> bool:
    """Whether any term that is on looks at the teacher."""
    return any(term.needs_teacher for term, _ in weighted_terms(losses))


def has_prediction(losses: LossSection) -> bool:
    """Whether any term that is on looks at the student's prediction.

    Those inside the U-Net alone leave its last layers without a gradient.
    """
    return any(term.uses_prediction for term, _ in weighted_terms(losses))


def check_hints(losses: LossSection) -> None:
    """Raises InputError: all terms would fade to nothing."""
    if losses.hints_until is not None and not has_prediction(losses):
        raise InputError(
            "`distill.losses.hints_until` must leave a term of the prediction",
            ", ".join(losses.weights),
        )


def titles(names: Collection[str]) -> dict[str, str]:
    """Titles of those names that are installed terms, in the recipe's order."""
    installed = entries(TERMS)
    ordered = dict.fromkeys([*LossSection.model_fields, *installed])
    return {n: get_term(n).title for n in ordered if n in names and n in installed}
