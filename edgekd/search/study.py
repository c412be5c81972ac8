"""The search itself: known students, an evolutionary sweep, then a sampler of Optuna.

Scoring a candidate takes a fraction of a millisecond, asking Optuna for one up to a hundred times
that. So tens of thousands are scored in memory, and what none of them dominates goes into an
Optuna study as finished trials, which a sampler refines. The study holds all that a later call
needs, and is shared by all that name the same storage and content.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekd.search.candidate import Scored
from edgekd.search.front import pareto_front
from edgekd.search.samplers import make_sampler
from edgekd.search.scoring import Memo, Scoring
from edgekd.search.storage import close_storage, masked, open_storage, storage_errors
from edgekd.search.sweep import ROUND, Sweep
from edgekd.search.trials import Mirror, SharedStudy, StudyPlan, quiet

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_SWEEP_SHARE = 0.7  # of the seconds; the rest is the sampler's
_KEPT = 128  # points of the sweep's front that become trials: a database takes some 50 a second


@dataclass(frozen=True)
class StudyBudget:
    """What a study may use; the first bound that is reached ends its part.

    Attributes:
        candidates: scored by the sweep.
        trials: asked of the sampler, those of earlier calls and other hosts included.
        seconds: of this call.
    """

    candidates: int = 20_000
    trials: int = 30
    seconds: float = 60.0


@dataclass(frozen=True)
class StudyOutcome:
    """What a study holds when a call ends.

    Attributes:
        points: every trial's candidate, each once.
        trials: in the study.
        found: of these, how many were there when this call began.
        candidates: scored by this call, each once.
        candidates_per_second: while it scored.
        storage: without secrets.
    """

    points: tuple[Scored, ...]
    trials: int
    found: int
    candidates: int
    candidates_per_second: float
    study_name: str
    storage: str

    @property
    def front(self) -> tuple[Scored, ...]:
        return pareto_front(self.points)


def run_study(
    plan: StudyPlan,
    scoring: Scoring,
    budget: StudyBudget,
    report: Callable[[], None] = lambda: None,
) -> StudyOutcome:
    """Begin a study or go on with it.

    Args:
        report: is told of every candidate that was scored.

    Raises:
        InputError: see `storage_errors`; or a study of other content has the name.
    """
    begin = time.monotonic()
    with quiet(), storage_errors(plan.storage):
        storage = open_storage(plan.storage)
        try:
            return _Search(plan, Memo(scoring, report), storage, begin).run(budget)
        finally:
            close_storage(storage)


class _Search:
    """One call of `run_study`."""

    def __init__(self, plan: StudyPlan, memo: Memo, storage: BaseStorage, begin: float) -> None:
        self._plan, self._memo, self._begin = plan, memo, begin
        self._shared = SharedStudy(plan, storage)
        self._shared.pull()
        if self._shared.swept:  # else their figures may be of other measurements: scored again
            for _, scored in self._shared.trials.values():
                memo.learn(scored)
        self._found = len(self._shared.trials)

    def run(self, budget: StudyBudget) -> StudyOutcome:
        self._score_known()
        if self._shared.swept < budget.candidates:
            self._sweep(budget)
        self._sample(budget)
        shared, memo = self._shared, self._memo
        points = {scored.candidate: scored for _, scored in shared.trials.values()}
        return StudyOutcome(
            points=tuple(points.values()),
            trials=len(shared.trials),
            found=self._found,
            candidates=memo.scored,
            candidates_per_second=memo.scored / memo.seconds if memo.scored else 0.0,
            study_name=self._plan.study_name,
            storage=masked(self._plan.storage),
        )

    def _left(self, seconds: float) -> float:
        return self._begin + seconds - time.monotonic()

    def _score_known(self) -> None:
        there = [setting for setting, _ in self._shared.trials.values()]
        for setting in self._plan.known:
            if setting not in there:
                self._shared.add(setting, self._memo(setting), "known")
        self._shared.pull()

    def _sweep(self, budget: StudyBudget) -> None:
        """The sweep, from the best that is known; its front goes into the study."""
        there = self._shared.trials.values()
        start, candidates = [setting for setting, _ in there], {one.candidate for _, one in there}
        sweep = Sweep(self._plan.dimensions, self._memo, self._shared.seed(), start)
        done = 0
        while done < budget.candidates and self._left(_SWEEP_SHARE * budget.seconds) > 0:
            done += sweep.round(min(ROUND, budget.candidates - done))
        for setting, scored in sweep.spread(_KEPT):
            if scored.candidate not in candidates:
                self._shared.add(setting, scored, "sweep")
        self._shared.pull()
        if done >= budget.candidates:
            self._shared.set_swept(done)

    def _sample(self, budget: StudyBudget) -> None:
        """Trials of the sampler, until as many are in the study."""
        if self._shared.count("sampler") >= budget.trials or self._left(budget.seconds) <= 0:
            return
        sampler = make_sampler(self._plan.sampler, self._shared.seed())
        mirror = Mirror(self._shared, sampler)
        while self._shared.count("sampler") < budget.trials and self._left(budget.seconds) > 0:
            mirror.trial(self._memo)
