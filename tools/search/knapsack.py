"""The exact front where quality and costs are additive over the dimensions: a baseline.

If each choice of a dimension adds a fixed amount to the latency, to the size and to the logarithm
of the quality, then choosing one of each is the multiple-choice knapsack problem with several
objectives. Its whole front is found by merging one dimension after the other and dropping partial
sums that others dominate (Nemhauser and Ullmann, Management Science 15(9), 1969): whatever the
other dimensions add to them, they stay dominated.

A search's scores are not additive in general (steps multiply what blocks cost). With such
dimensions fixed they are, and the study can be held against this front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekd.search.front import hypervolume, non_dominated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AdditiveFront:
    """Every non-dominated sum, in lexical order.

    Attributes:
        values: [n, k] sums; lower is better.
        choices: [n, dimensions] index of the choice in each dimension, of one way to get there.
    """

    values: Floats
    choices: NDArray[np.int64]


def exact_front(amounts: Sequence[Floats]) -> AdditiveFront:
    """The exact front of an additive model.

    Args:
        amounts: per dimension [choices, k]: what each choice adds to each of k objectives.
    """
    width = amounts[0].shape[1]
    values, chosen = np.zeros((1, width)), np.zeros((1, 0), dtype=np.int64)
    for table in amounts:
        sums = (values[:, None] + table[None]).reshape(-1, width)
        rows = non_dominated(sums)
        values = sums[rows]
        chosen = np.column_stack([chosen[rows // len(table)], rows % len(table)])
    return AdditiveFront(values, chosen)


def share_reached(found: Floats, exact: AdditiveFront, reference: Floats) -> float:
    """How much of the exact front's hypervolume a set of points has, in [0, 1].

    Args:
        found: [n, k], in the exact front's objectives.
        reference: [k], the worst that counts.
    """
    return hypervolume(found, reference) / hypervolume(exact.values, reference)
