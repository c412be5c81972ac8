"""Choose one option for each unit: the multiple-choice knapsack, solved with proof.

Units u, options k with bytes s[u,k] and noise n[u,k]; x[u,k] in {0,1}, sum_k x[u,k] = 1:

    smallest:  min sum s x   subject to  sum n x <= noise
    quietest:  min sum n x   subject to  sum s x <= bytes

(Kellerer, Pferschy, Pisinger, "Knapsack Problems", 2004, chapter 11.) HiGHS solves it by branch and
bound, with proof that nothing is better by more than a hundred-thousandth; some hundred units of a
few options take about a second.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# HiGHS lets a constraint be broken by 1e-6 of its bound. Should its answer break the bound, it is
# asked again for this share less than the bound.
_SLACKS = (0.0, 2e-6, 2e-5, 2e-4)
# The proof that nothing is better ends here: a hundred-thousandth of the size is no matter.
_GAP = 1e-5


@dataclass(frozen=True)
class Option:
    """One way to store a unit: its bytes and the noise power that it adds."""

    bytes: int
    noise: float


def smallest(options: Sequence[Sequence[Option]], noise: float) -> list[int] | None:
    """The fewest bytes whose noises add up to at most `noise`.

    Returns:
        Index of the option of each unit; None: not even the quietest options are quiet enough.
    """
    return _solve(options, lambda option: option.bytes, lambda option: option.noise, noise)


def quietest(options: Sequence[Sequence[Option]], size_bytes: int) -> list[int] | None:
    """The least noise in at most `size_bytes`; None: not even the smallest options fit."""
    return _solve(options, lambda option: option.noise, lambda option: option.bytes, size_bytes)


def total(options: Sequence[Sequence[Option]], chosen: Sequence[int]) -> Option:
    """Bytes and noise of a choice, noises taken as additive."""
    picked = [unit[index] for unit, index in zip(options, chosen, strict=True)]
    return Option(sum(o.bytes for o in picked), float(sum(o.noise for o in picked)))


def _solve(
    options: Sequence[Sequence[Option]], cost: Any, load: Any, bound: float
) -> list[int] | None:
    """Least sum of `cost` with the sum of `load` at most `bound`, both at least 0."""
    lightest = [
        min(range(len(unit)), key=lambda k: (load(unit[k]), cost(unit[k]))) for unit in options
    ]
    light = sum(load(unit[k]) for unit, k in zip(options, lightest, strict=True))
    if light > bound:
        return None
    if not options or bound <= 0 or light == bound:
        return lightest  # no room to choose in
    for slack in _SLACKS:
        chosen = _milp(options, cost, load, bound, slack)
        if sum(load(unit[k]) for unit, k in zip(options, chosen, strict=True)) <= bound:
            return chosen
    return lightest  # within 2e-4 of the bound there is nothing else


def _milp(
    options: Sequence[Sequence[Option]], cost: Any, load: Any, bound: float, slack: float
) -> list[int]:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    flat = [option for unit in options for option in unit]
    owner = np.repeat(np.arange(len(options)), [len(unit) for unit in options])
    with np.errstate(over="ignore"):
        loads = np.array([load(option) for option in flat], dtype=np.float64) / bound
    # Above the bound alone is out of the question at any height; HiGHS refuses huge coefficients.
    loads = np.minimum(loads, 2.0)
    one_each = csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    with _silent_stdout():
        result = milp(
            _scaled([cost(option) for option in flat]),
            integrality=np.ones(len(flat)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(loads.reshape(1, -1), -np.inf, 1 - slack),
            ],
            options={"mip_rel_gap": _GAP},
        )
    if result.x is None:
        raise RuntimeError(f"the knapsack has a solution, but HiGHS says: {result.message}")
    starts = np.cumsum([0] + [len(unit) for unit in options])
    return [int(np.argmax(result.x[start:end])) for start, end in itertools.pairwise(starts)]


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """HiGHS prints from C what no option turns off, and stdout belongs to the command's answer."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _scaled(values: list[float]) -> npt.NDArray[np.float64]:
    """The same order of magnitude for all problems: the solver's tolerances are absolute."""
    array = np.array(values, dtype=np.float64)
    return np.asarray(array / max(array.mean(), np.finfo(np.float64).tiny))
