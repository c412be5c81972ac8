"""A study whose process is killed goes on from what it had."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from fixtures.studies import SCORING, study_plan

from edgekd.search.storage import sqlite_url
from edgekd.search.study import StudyBudget, run_study

TESTS = Path(__file__).parents[2]


def test_a_killed_study_loses_at_most_the_running_trial(tmp_path):
    url, wanted = sqlite_url(tmp_path / "study.sqlite"), 12
    command = [sys.executable, "-m", "fixtures.study_child", url, "random", "10000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(wanted)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    assert child.returncode == -signal.SIGKILL
    scored = len(seen) + rest.count("scored\n")
    assert seen == ["scored\n"] * wanted
    again = run_study(study_plan(url), SCORING, StudyBudget(0, 0, 600))
    # Equal candidates are scored once, and every one but the last has its trial.
    candidates = len(again.points)
    assert scored - 1 <= candidates <= scored
    more = run_study(study_plan(url), SCORING, StudyBudget(0, again.trials + 3, 600))
    assert more.found == again.trials
    assert more.trials == again.trials + 4  # the known one is no trial of the sampler
