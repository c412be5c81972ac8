from fixtures.studies import FULL, SCORING, candidate

from edgekd.search.scoring import Memo, Scoring


def test_settings_that_come_to_one_candidate_are_scored_once():
    told, scored = [], []

    def score(one):
        scored.append(one)
        return SCORING.score(one)

    scoring = Scoring(SCORING.candidate, score, fit=lambda setting: {**setting, "mid": 0})
    memo = Memo(scoring, lambda: told.append(1))
    first, second = memo(FULL), memo({**FULL, "mid": 1})
    assert first is second is memo(FULL)
    assert len(scored) == len(told) == memo.scored == 1
    assert memo.seconds > 0


def test_what_was_scored_elsewhere_is_not_scored_again():
    def refuse(one):
        raise AssertionError(one)

    known = SCORING.score(SCORING.candidate(FULL))
    memo = Memo(Scoring(SCORING.candidate, refuse), lambda: None)
    memo.learn(known)
    assert memo(FULL) is known
    assert memo.scored == 0
    assert known.candidate == candidate(name="0 0 0 0")
