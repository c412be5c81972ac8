"""Successive halving: its counts and budgets, the right choice, and what a kill costs."""

import pytest

from edgekd.progress import Silent
from edgekd.search.candidate import Candidate
from edgekd.search.figures import KeptFigures
from edgekd.search.halving import HalvingSettings, Rung, halve, plan_rungs
from edgekd.student.arch import StageArch, StudentArch

ARCH = StudentArch(stages=(StageArch(),))
FINALISTS = [Candidate(arch=ARCH, decoder_width=1, steps=n, precision="fp32") for n in range(1, 9)]
SETTINGS = HalvingSettings(rungs=3, eta=2, budget=400)


class Evaluations:
    """More steps are better, once the budget is large enough to tell."""

    def __init__(self, dies_at=None):
        self.calls = []
        self.dies_at = dies_at

    def __call__(self, candidate, budget):
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append((candidate.steps, budget))
        return 0.1 * candidate.steps


def run(evaluate, path, finalists=FINALISTS, settings=SETTINGS):
    def one_by_one(candidates, budget):
        return ((one, evaluate(one, budget)) for one in candidates)

    return halve(finalists, one_by_one, settings, KeptFigures(path, "key"), Silent())


@pytest.mark.parametrize(
    ("count", "settings", "expected"),
    [
        (8, {"rungs": 3}, [(8, 100), (4, 200), (2, 400)]),
        (9, {"rungs": 3, "eta": 3}, [(9, 133), (3, 400)]),
        (5, {"rungs": 3}, [(5, 100), (3, 200), (2, 400)]),
        (8, {"rungs": 1}, [(8, 400)]),
        (4, {"rungs": 2, "budget": 1}, [(4, 1), (2, 1)]),
        (2, {"rungs": 4}, [(2, 400)]),
        (1, {"rungs": 3}, [(1, 400)]),
        (0, {"rungs": 3}, []),
    ],
)
def test_rungs_follow_the_equation(count, settings, expected):
    rungs = plan_rungs(count, HalvingSettings(**{"budget": 400, **settings}))
    assert rungs == tuple(Rung(*row) for row in expected)


def test_the_best_half_goes_on_and_the_best_wins(tmp_path):
    evaluate = Evaluations()
    ranked = run(evaluate, tmp_path / "halving.json")
    assert [one.candidate.steps for one in ranked] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [one.budget for one in ranked] == [400, 400, 200, 200, 100, 100, 100, 100]
    assert evaluate.calls[:8] == [(n, 100) for n in range(1, 9)]
    assert sorted(evaluate.calls[8:12]) == [(n, 200) for n in range(5, 9)]
    assert sorted(evaluate.calls[12:]) == [(7, 400), (8, 400)]


def test_a_longer_run_outranks_a_lucky_short_one(tmp_path):
    def evaluate(candidate, budget):
        return candidate.steps / budget

    ranked = run(evaluate, tmp_path / "halving.json")
    assert [one.candidate.steps for one in ranked[:3]] == [8, 7, 6]
    assert ranked[0].quality < ranked[-1].quality * 10


def test_the_more_promising_wins_a_tie(tmp_path):
    ranked = run(lambda candidate, budget: 1.0, tmp_path / "halving.json")
    assert [one.candidate.steps for one in ranked] == list(range(1, 9))


def test_a_kill_costs_one_evaluation(tmp_path):
    path, dies = tmp_path / "halving.json", Evaluations(dies_at=9)
    with pytest.raises(KeyboardInterrupt):
        run(dies, path)
    rest, whole = Evaluations(), Evaluations()
    ranked = run(rest, path)
    assert ranked == run(whole, tmp_path / "whole.json")
    assert dies.calls + rest.calls == whole.calls
