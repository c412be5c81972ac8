"""From a setting of a search space to a candidate with its cost and expected quality."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edgekd.search.candidate import Candidate, Scored
from edgekd.search.dimensions import Choice, Choices

Dimensions: TypeAlias = Mapping[str, tuple[Choice, ...]]
Setting: TypeAlias = Choices


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
    """Scores by setting and by candidate: settings that come to one candidate are scored once.

    Attributes:
        scored: candidates that were scored here.
        seconds: spent on fitting, making and scoring them.

    Args:
        report: is told of every candidate that was scored.
    """

    def __init__(self, scoring: Scoring, report: Callable[[], None]) -> None:
        self._scoring, self._report = scoring, report
        self._by_setting: dict[tuple[Choice, ...], Scored] = {}
        self._by_candidate: dict[Candidate, Scored] = {}
        self.scored, self.seconds = 0, 0.0

    def __call__(self, setting: Setting) -> Scored:
        key = tuple(setting.values())
        found = self._by_setting.get(key)
        if found is None:
            begin = time.perf_counter()
            found = self._by_setting[key] = self._score(setting)
            self.seconds += time.perf_counter() - begin
        return found

    def learn(self, scored: Scored) -> None:
        """Take over what was scored elsewhere."""
        self._by_candidate.setdefault(scored.candidate, scored)

    def _score(self, setting: Setting) -> Scored:
        fit = self._scoring.fit
        candidate = self._scoring.candidate(fit(setting) if fit else setting)
        found = self._by_candidate.get(candidate)
        if found is None:
            found = self._by_candidate[candidate] = self._scoring.score(candidate)
            self.scored += 1
            self._report()
        return found
