"""The suite that compares the searched student with presets and simpler rules."""

import math

import pytest

from edgekd.benchmark.search_suites import BaselinesSuite
from edgekd.benchmark.suite import load_any_suite
from edgekd.errors import GateError
from edgekd.jobs.baseline_figures import (
    SEARCHED,
    Baselines,
    Rival,
    baseline_lines,
    rank_correlation,
    summaries,
    verdicts,
)
from edgekd.jobs.search_baselines import RuleChoice, _not_empty, _pairs
from edgekd.resources import find_yaml
from edgekd.search.candidate import Candidate
from edgekd.student.arch import StudentArch
from edgekd.student.resolve import PRESETS
from edgekd.target import load_target


@pytest.fixture
def suite() -> BaselinesSuite:
    found = load_any_suite(find_yaml("benchmarks", "search-vs-baselines"))
    assert isinstance(found, BaselinesSuite)
    return found


def rival(rule: str, score: float | None, fd: float, seed: int = 0, expected: float = 0.5) -> Rival:
    student = f"{rule} {expected}"
    return Rival(
        preset="p",
        rule=rule,
        student=student,
        seed=seed,
        latency_ms=10,
        expected=expected,
        score=score,
        fd=fd,
    )


def test_the_shipped_suite_names_what_exists(suite):
    assert suite.precision in load_target(suite.target).precisions
    assert set(suite.presets) <= set(PRESETS)


def test_a_rules_figures_are_means_over_seeds_with_their_errors():
    (found,) = summaries([rival("macs", 10, 100, 0), rival("macs", 14, 100, 1)])
    assert found.score == (12, pytest.approx(2))  # sqrt(8) / sqrt(2)
    assert found.fd == (100, 0)
    (single,) = summaries([rival("macs", 10, 100)])
    assert single.score[0] == 10
    assert math.isnan(single.score[1])


@pytest.mark.parametrize(
    ("score", "fd", "told"),
    [
        (11, 200, "random has the better score, by 1.0 ± nan"),
        (9, 90, "random has the better FD, by 10.0 ± nan"),
        (9, 200, "the searched student is the best of all rules"),
    ],
)
def test_a_rule_that_beats_the_search_is_named(score, fd, told):
    rivals = [rival("searched", 10, 100), rival("random", score, fd)]
    assert verdicts(rivals) == [f"at the latency of p: {told}"]


def test_what_was_not_measured_has_no_winner():
    rivals = [rival("searched", None, 100), rival("random", 11, 200)]
    (line,) = verdicts(rivals)
    assert line.endswith("random cannot be compared by score, figures are missing")


def test_a_lead_is_told_with_its_error_over_seeds():
    """Paired: a seed's noise, captions and trajectories are the same for all rules."""
    rivals = [
        *(rival("searched", score, 100, seed) for seed, score in enumerate((10, 20))),
        *(rival("random", score, 100, seed) for seed, score in enumerate((11, 25))),
        rival("random", None, 100, 2),
    ]
    assert verdicts(rivals) == ["at the latency of p: random has the better score, by 3.0 ± 2.0"]


def test_the_table_has_a_line_for_each_rule_and_preset():
    rivals = [rival("searched", 10, 100), rival("preset", 5, 300)]
    lines = baseline_lines(Baselines(suite="s", rivals=rivals, environment={}))
    assert len(lines) == 4
    assert lines[2].split()[:2] == ["p", "preset"]


def test_expectations_are_ranked_against_what_distillation_left():
    """Of a student's mean over seeds; one that was not measured is left out."""
    rivals = [
        *(rival("a", score, 300, seed, expected=0.2) for seed, score in enumerate((1, 9))),
        rival("b", 4, 200, expected=0.3),
        rival("c", 8, 250, expected=0.9),
        rival("d", None, 1, expected=0.99),
    ]
    assert rank_correlation(rivals, lambda one: one.score) == (3, pytest.approx(0.5))
    assert rank_correlation(rivals, lambda one: one.fd) == (4, pytest.approx(-0.8))
    assert math.isnan(rank_correlation(rivals[:2], lambda one: one.score)[1])
    told = baseline_lines(
        Baselines(suite="s", rivals=[*rivals, rival(SEARCHED, 5, 5)], environment={})
    )
    assert told[-1] == "expected quality of 5 students: rank correlation -0.70 with FD"


def test_every_rule_is_trained_with_every_seed_and_random_students_with_their_own(suite):
    arch = StudentArch.model_validate({"stages": [{}]})
    candidate = Candidate(arch=arch, decoder_width=1, steps=2, precision="fp32")
    choices = [
        RuleChoice("p", "searched", candidate, 1.0),
        *(RuleChoice("p", "random", candidate, 1.0, seed) for seed in suite.seeds),
    ]
    found = [(choice.rule, choice.seed, seed) for choice, seed in _pairs(suite, choices)]
    assert sorted(seed for rule, _, seed in found if rule == "searched") == suite.seeds
    assert [(own, seed) for rule, own, seed in found if rule == "random"] == [
        (seed, seed) for seed in suite.seeds
    ]


def test_a_pool_without_a_student_of_a_presets_latency_is_said():
    arch = StudentArch.model_validate({"stages": [{}]})
    one = Candidate(arch=arch, decoder_width=1, steps=2, precision="fp32")
    assert _not_empty([one], "bk-sdm-tiny", 20.0) == [one]
    with pytest.raises(GateError, match="in 18 to 20 ms, as `bk-sdm-tiny` does, but got none"):
        _not_empty([], "bk-sdm-tiny", 20.0, 18.0)
