"""The ordered map: order, bounded look-ahead, and no process left behind."""

import concurrent.futures
import os
import threading

import pytest

from edgekd.data.workers import ordered_map, worker_count, worker_pool
from edgekd.errors import InputError


def test_results_keep_the_order_and_few_tasks_wait():
    started = []
    blocked = threading.Event()

    def tasks():
        for i in range(50):
            started.append(i)
            yield i, i

    def work(i: int) -> int:
        if i == 0:
            blocked.wait(10)  # the first is the slowest
        return i * i

    results = []
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        mapped = ordered_map(pool, work, tasks(), ahead=6)
        releaser = threading.Timer(0.2, blocked.set)
        releaser.start()
        for task, result in mapped:
            assert len(started) - len(results) <= 6 + 1
            results.append((task, result))
    assert results == [(i, i * i) for i in range(50)]


def test_one_worker_needs_no_process():
    with worker_pool(1) as pool:
        assert pool is None
        pids = [result for _, result in ordered_map(pool, lambda _: os.getpid(), [(0, 0)], 2)]
    assert pids == [os.getpid()]


def test_small_work_starts_no_processes():
    assert worker_count(0, 100) == 1
    assert worker_count(3, 100) == 3
    assert worker_count(0, None) >= 1


def test_a_worker_that_dies_is_an_input_error():
    with pytest.raises(InputError, match="live to the end"), worker_pool(2) as pool:
        list(ordered_map(pool, os._exit, [(0, 1)], 2))
