"""From a setting of a search space to a candidate with its cost and expected quality."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edgekd.search.candidate import Candidate, Scored

DimensionValue: TypeAlias = str | int | float | bool
Dimensions: TypeAlias = Mapping[str, tuple[DimensionValue, ...]]
Setting: TypeAlias = Mapping[str, DimensionValue]


@dataclass(frozen=True)
class Scoring:
    """How candidates come to be and are scored.

    Attributes:
        candidate: of a setting that `fit` has seen.
        score: cost and expected quality, in well under a millisecond.
        fit: the nearest legal setting; None: every one is legal.
    """

    candidate: Callable[[Setting], Candidate]
    score: Callable[[Candidate], Scored]
    fit: Callable[[Setting], Setting] | None = None


class Memo:
    """Scores by setting: settings that fit alike are scored once.

    Attributes:
        scored: candidates that were scored here.
        seconds: spent on fitting, making and scoring them.

    Args:
        report: is told of every candidate that was scored.
    """

    def __init__(self, scoring: Scoring, report: Callable[[], None]) -> None:
        self._scoring, self._report = scoring, report
        self._known: dict[tuple[DimensionValue, ...], Scored] = {}
        self.scored, self.seconds = 0, 0.0

    def __call__(self, setting: Setting) -> Scored:
        begin = time.perf_counter()
        fitted = self._fitted(setting)
        key = tuple(fitted[name] for name in sorted(fitted))
        if key not in self._known:
            self._known[key] = self._scoring.score(self._scoring.candidate(fitted))
            self.scored += 1
            self._report()
        self.seconds += time.perf_counter() - begin
        return self._known[key]

    def learn(self, setting: Setting, scored: Scored) -> None:
        """Take over what was scored elsewhere."""
        fitted = self._fitted(setting)
        self._known.setdefault(tuple(fitted[name] for name in sorted(fitted)), scored)

    def _fitted(self, setting: Setting) -> Setting:
        return self._scoring.fit(setting) if self._scoring.fit else setting
