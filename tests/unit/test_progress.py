"""What progress says of a run's pace."""

import time

import pytest

from edgekd.progress import Bars, Lines, Silent


@pytest.mark.parametrize("progress", [Silent(), Bars()])
def test_units_of_an_earlier_process_are_taken(progress):
    with progress.track("distill", 10) as advance:
        advance(4, resumed=True)
        advance(6)


def test_the_pace_is_that_of_this_process(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Lines().track("distill", 20_000) as advance:
        advance(10_000, resumed=True)
        now += 10
        advance(5)
        now += 10
        advance(9_995)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "  distill: 10005/20000 (0.5/s, 333m10s left)"
    assert lines[-1] == "  distill: 10000 in 20s"


def test_nothing_is_said_of_work_that_was_done_before(capsys):
    with Lines().track("distill", 10) as advance:
        advance(10, resumed=True)
    assert capsys.readouterr().err == ""


def test_names_of_others_do_not_steer_the_terminal(capsys):
    Lines().info("  set/a\x1b[2J\n.tsv: tabs")
    assert capsys.readouterr().err == "  set/a\\x1b[2J .tsv: tabs\n"
