"""Ranks of a training run are processes."""

import subprocess
import sys

import pytest
from fixtures import toy
from fixtures.toy import losses, run

TWO_PROCESSES = """
import importlib.util, sys
from pathlib import Path
from edgekd.teach.ranks import run_ranks

spec = importlib.util.spec_from_file_location("toy", FILE)
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

def work(ranks, folder, own):
    assert (own == "mine") == ranks.first
    averaged = toy.run(Path(folder), ranks)
    value = averaged["model"].weight.detach().clone()
    ranks.average(value)
    assert value == averaged["model"].weight, "all ranks hold the same weights"

if __name__ == "__main__":
    from two import work  # as the other process finds it

    run_ranks(2, work, sys.argv[1], own="mine")
"""


def test_two_processes_train_as_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.replace("FILE", repr(toy.__file__)))
    command = [sys.executable, str(script), str(tmp_path / "two")]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    run(tmp_path / "one")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert [r["step"] for r in one] == [r["step"] for r in two]
    ours, theirs = ([r["loss"] for r in rows if "loss" in r] for rows in (one, two))
    # a mean of two halves is rounded differently from a mean of the whole
    assert ours == pytest.approx(theirs, rel=1e-4)


FIRST_RANK_DIES = """
import os, signal
import torch
from edgekd.teach.ranks import run_ranks

def work(ranks, own):
    value = torch.ones(1)
    ranks.average(value)
    if ranks.first:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.average(value)

if __name__ == "__main__":
    from dies import work

    run_ranks(2, work, own=None)
"""


def test_other_ranks_end_quietly_when_the_first_is_killed(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(FIRST_RANK_DIES)
    command = [sys.executable, str(script)]
    # This returns when the pipes are closed: when the last of the processes has ended.
    result = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False)
    assert result.returncode == -9
    assert "Traceback" not in result.stderr
