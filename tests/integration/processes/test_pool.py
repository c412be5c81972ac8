"""Order, look-ahead, and that a pool leaves nothing behind."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from edgekd.errors import GateError
from edgekd.processes.pool import Pool, each, ordered_map

ENTRIES = """
import os
import time

from edgekd.errors import GateError

def fail_at_3(number):
    if number == 3:
        raise GateError("pictures must be finite", "NaN")

def process_of(_):
    return os.getpid()

def wait_for_another(folder):
    # Returns once two processes have left their names in the folder.
    (folder / str(os.getpid())).touch()
    while len(os.listdir(folder)) < 2:
        time.sleep(0.01)
"""


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_every_call_is_answered_once_and_no_process_starts_before_it_is_needed(entries, tmp_path):
    before = children()
    with Pool("try", 2) as pool:
        assert children() == before
        pool.submit(abs, -1).result()
        assert len(children()) == len(before) + 1
        assert sorted(each(pool, abs, range(-20, 0))) == [(n, -n) for n in range(-20, 0)]
        # Neither call ends without a process for the other.
        list(each(pool, entries.wait_for_another, [tmp_path] * 2))
        assert len(children()) == len(before) + 2
    assert children() == before


def test_the_first_failure_is_raised_and_what_waits_is_dropped(entries):
    with Pool("try", 1) as pool:
        with pytest.raises(GateError, match="NaN"):
            list(each(pool, entries.fail_at_3, range(9)))
        waiting = [pool.submit(time.sleep, 600) for _ in range(2)]
    assert waiting[1].cancelled()


def test_each_call_has_a_fresh_process_where_that_is_asked_for(entries):
    with Pool("try", 1, fresh=True) as pool:
        assert len({process for _, process in each(pool, entries.process_of, range(3))}) == 3


def test_leaving_ends_what_is_under_way():
    before = children()
    started = time.monotonic()
    with Pool("try", 2) as pool:
        pool.submit(abs, 1).result()
        pool.submit(time.sleep, 600)
    assert time.monotonic() - started < 60
    assert children() == before


def test_results_keep_the_order_and_few_tasks_wait():
    started = []
    blocked = threading.Event()

    def tasks():
        for i in range(50):
            started.append(i)
            yield i, i

    def work(i):
        if i == 0:
            blocked.wait(10)  # the first is the slowest
        return i * i

    results = []
    with ThreadPoolExecutor(4) as pool:
        mapped = ordered_map(pool, work, tasks(), ahead=6)
        releaser = threading.Timer(0.2, blocked.set)
        releaser.start()
        for task, result in mapped:
            assert len(started) - len(results) <= 6 + 1
            results.append((task, result))
    assert results == [(i, i * i) for i in range(50)]


def test_without_a_pool_the_work_is_done_here(entries):
    assert list(ordered_map(None, entries.process_of, [(0, 0)], 2)) == [(0, os.getpid())]
