"""What a finalist is worth that need not be trained."""

from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.jobs import short_distillation
from edgekd.jobs.plan import Plan
from edgekd.jobs.search_plan import plan_search
from edgekd.jobs.short_distillation import distil_here
from edgekd.progress import Silent
from edgekd.search.halving import HalvingSettings, halve

CACHE: Any = SimpleNamespace(key="data")


@pytest.fixture
def ranked(planned, tmp_path):
    """`ranked(*assignments)`: steps of students, after they were distilled, the best first."""

    def rank(*assignments: str) -> list[int]:
        plan: Plan = planned("search.speedup=null", *assignments)
        space = plan_search(plan).space
        whole = space.candidate(space.full())
        finalists = [
            whole.model_copy(update={"steps": steps, "decoder_width": 0.5}) for steps in (1, 2, 4)
        ]
        evaluate = distil_here(plan, CACHE, tmp_path / "distill", Silent())
        kept: Any = Kept()
        found = halve(finalists, evaluate, HalvingSettings(rungs=1, budget=7), kept, Silent())
        return [one.candidate.steps for one in found]

    return rank


class Kept(dict[str, float]):
    def keep(self, name: str, value: float) -> None:
        self[name] = value


def test_a_whole_copy_that_no_phase_trains_is_its_teacher(ranked, monkeypatch):
    def train(*_: Any) -> Any:
        pytest.fail("there is nothing to train")

    monkeypatch.setattr(short_distillation, "train_phases", train)
    assert ranked("distill.phases=[kd,decoder]") == [1, 2, 4]
