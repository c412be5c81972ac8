"""No process outlives the edgekd that started it, however that ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest

from edgekd.data.sources import STARTER_PARQUET


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "few.parquet"
    pq.write_table(pq.read_table(STARTER_PARQUET).slice(0, 2000), path)
    return path


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGHUP, 128 + 1)])
def test_workers_of_a_verb_end_with_it(how, code, few, tmp_path):
    command = [sys.executable, "-c", "from edgekd.cli import main; main()", "prepare"]
    options = ["--data", str(few), "--out", str(tmp_path / "out"), "--set", "data.workers=2"]
    verb = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(psutil.Process(verb.pid).children()) == 2)
        workers = psutil.Process(verb.pid).children()
        verb.send_signal(how)
        assert verb.wait(30) == code
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == []
    finally:
        verb.kill()


WITHOUT_A_SIGNAL = """
import os, time
from edgekd.processes import serve
serve.end_with = lambda parent: None
serve.main(os.getppid())
"""


def test_the_end_of_the_pipe_ends_a_child_in_the_midst_of_work(tmp_path):
    """As where the system has no signal for a parent's death."""
    import pickle

    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", WITHOUT_A_SIGNAL], stdin=pipe, stdout=pipe)
    begun = tmp_path / "begun"
    for function, arguments in ((os.mkdir, (begun,)), (time.sleep, (600,))):
        pickle.dump(pickle.dumps((function, arguments, {})), child.stdin)
        child.stdin.flush()
    wait_until(begun.is_dir)
    child.stdin.close()
    assert child.wait(10) == 1
    child.stdout.close()


def test_a_child_whose_parent_died_before_it_came_up_ends():
    done = subprocess.run(
        [sys.executable, "-c", "from edgekd.processes.serve import main; main(0)"],
        stdin=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
