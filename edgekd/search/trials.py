"""The trials of a study: in a database that may be shared, and mirrored in memory for a sampler.

A sampler of Optuna reads all trials for each new one and notes it piece by piece, which takes a
database a hundred times as long as memory. So it works on a mirror; what it found is added to the
database whole, in one transaction, and what others found is taken over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import Field

from edgekd.files import hash_value
from edgekd.recipe_search import SamplerName
from edgekd.schema import Section, validate
from edgekd.search.candidate import Candidate, Cost, Scored
from edgekd.search.scoring import Dimensions, Memo, Setting
from edgekd.search.storage import is_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

OBJECTIVES: Final = ("latency_ms", "quality", "size_bytes")
DIRECTIONS: Final = ("minimize", "maximize", "minimize")
TrialOrigin = Literal["known", "sweep", "sampler"]
_RECORD, _ORIGIN, _WORKER, _SWEPT = "scored", "origin", "worker", "swept"


@dataclass(frozen=True)
class StudyPlan:
    """What is studied, and where the study is kept.

    Attributes:
        name: for people; the study's name in its storage ends in the content key.
        key: hash of all that decides what a score means: teacher, data, target, conditions of the
            measurements, code. Dimensions are added to it here.
        dimensions: name to values, the same for every candidate.
        known: settings that are scored first, such as the whole teacher and presets.
        storage: a database URL of SQLAlchemy.
        told_from: hash of the measurements that costs are told from. A sweep and figures that were
            told from others count for nothing.
    """

    name: str
    key: str
    dimensions: Dimensions
    known: Sequence[Setting]
    storage: str
    sampler: SamplerName = "tpe"
    seed: int = 0
    told_from: str = ""

    @property
    def study_name(self) -> str:
        listed = {name: list(values) for name, values in self.dimensions.items()}
        return f"{self.name}-{hash_value([self.key, listed, OBJECTIVES])[:12]}"


class TrialRecord(Section):
    """What a trial carries: the candidate that was scored, and its figures."""

    candidate: Candidate
    latency_ms: float = Field(..., gt=0)
    size_bytes: int = Field(..., ge=0)
    peak_bytes: int = Field(..., ge=0)
    quality: float = Field(..., ge=0)
    measured: bool = False

    @classmethod
    def of(cls, scored: Scored) -> TrialRecord:
        cost = scored.cost
        return cls(
            candidate=scored.candidate,
            latency_ms=cost.latency_ms,
            size_bytes=cost.size_bytes,
            peak_bytes=cost.peak_bytes,
            quality=scored.quality,
            measured=scored.measured,
        )

    def scored(self) -> Scored:
        cost = Cost(self.latency_ms, self.size_bytes, self.peak_bytes)
        return Scored(self.candidate, cost, self.quality, self.measured)


class SharedStudy:
    """A study in its storage. What it holds is read once, and what others add when asked."""

    def __init__(self, plan: StudyPlan, storage: BaseStorage) -> None:
        from optuna.distributions import CategoricalDistribution

        self._plan = plan
        self.distributions = {
            name: CategoricalDistribution(values) for name, values in plan.dimensions.items()
        }
        self.study, self._mine = _open(plan, storage)
        self.frozen: dict[int, FrozenTrial] = {}
        self.trials: dict[int, tuple[Setting, Scored]] = {}
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"

    def pull(self) -> list[FrozenTrial]:
        """Take over what was added since the last call; of that, what others added."""
        from optuna.trial import TrialState

        finished = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        new = [
            one for one in finished if one.number not in self.frozen and _RECORD in one.user_attrs
        ]
        for one in new:
            where = f"trial {one.number} of study `{self._plan.study_name}`"
            record = validate(TrialRecord, one.user_attrs[_RECORD], where)
            self.frozen[one.number] = one
            self.trials[one.number] = (one.params, record.scored())
        return [one for one in new if one.user_attrs.get(_WORKER) != self._worker]

    def count(self, origin: TrialOrigin) -> int:
        return sum(one.user_attrs.get(_ORIGIN) == origin for one in self.frozen.values())

    @property
    def swept(self) -> int:
        """Candidates that a whole sweep of this study scored by the same measurements."""
        return int(self.study.user_attrs.get(self._swept_name, 0))

    def set_swept(self, candidates: int) -> None:
        self.study.set_user_attr(self._swept_name, candidates)

    @property
    def _swept_name(self) -> str:
        return f"{_SWEPT} {self._plan.told_from}"

    def seed(self) -> int:
        """From the plan's seed and the trials that are there.

        Whoever joins a study that others may be working on draws its own, lest it repeats them.
        """
        own = [] if self._mine else list(self._worker.encode())
        state = np.random.SeedSequence([self._plan.seed, len(self.frozen), *own])
        return int(state.generate_state(1)[0])

    def add(
        self,
        setting: Setting,
        scored: Scored,
        origin: TrialOrigin,
        system: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a finished trial, whole or not at all.

        Args:
            system: a sampler's own notes, such as NSGA-II's generation.
        """
        from optuna.trial import create_trial

        record = TrialRecord.of(scored).model_dump(mode="json")
        trial = create_trial(
            params={name: setting[name] for name in self.distributions},
            distributions=dict(self.distributions),
            values=values_of(scored),
            user_attrs={_RECORD: record, _ORIGIN: origin, _WORKER: self._worker},
            system_attrs=dict(system or {}),
        )
        self.study.add_trial(trial)


def values_of(scored: Scored) -> tuple[float, float, float]:
    """In the order of `OBJECTIVES`."""
    return scored.cost.latency_ms, scored.quality, float(scored.cost.size_bytes)


class Mirror:
    """A shared study in memory, where a sampler works."""

    def __init__(self, shared: SharedStudy, sampler: BaseSampler) -> None:
        import optuna

        self._shared = shared
        self._study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)
        self._study.add_trials(list(shared.frozen.values()))

    def trial(self, memo: Memo) -> None:
        """One trial: ask, score, tell, and add it to the shared study."""
        trial = self._study.ask(dict(self._shared.distributions))
        scored = memo(trial.params)
        told = self._study.tell(trial, values_of(scored))
        self._shared.add(trial.params, scored, "sampler", told.system_attrs)
        self._study.add_trials(self._shared.pull())


def _open(plan: StudyPlan, storage: BaseStorage) -> tuple[Study, bool]:
    """The study, and whether no other process can be working on it."""
    import optuna

    name, created = plan.study_name, True
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=list(DIRECTIONS))
        study.set_metric_names(list(OBJECTIVES))
    except optuna.exceptions.DuplicatedStudyError:
        study, created = optuna.load_study(storage=storage, study_name=name), False
    return study, created or is_file(plan.storage)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna prints nothing meanwhile: the lines of a search are edgekd's own."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
