"""Threads and memory of training on a CPU."""

import ctypes
import resource

import torch

from edgekd.measure.environment import cores
from edgekd.training.cpu import all_cores, kept_heap, training_cpu

BLOCKS, BLOCK_BYTES = 24, 8 * 2**20
PAGES = BLOCKS * BLOCK_BYTES // resource.getpagesize()


def step() -> int:
    """Page faults of filling and freeing some large buffers."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(BLOCK_BYTES, dtype=torch.uint8) for _ in range(BLOCKS)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_step_takes_over_the_memory_of_the_step_before():
    with kept_heap():
        # The first ones still move between the gaps that smaller blocks leave.
        kept = [step() for _ in range(5)][-1]
    given_back = step()
    if hasattr(ctypes.CDLL(None), "mallopt"):
        assert kept < PAGES / 100
        assert given_back > PAGES / 2


def test_threads_are_set_for_a_while():
    before = torch.get_num_threads()
    with training_cpu(before + 1):
        assert torch.get_num_threads() == before + 1
    with training_cpu(0):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_alone_the_first_process_of_a_launch_has_all_cores(monkeypatch):
    """Launchers set OMP_NUM_THREADS=1; who set another number meant it."""
    before = torch.get_num_threads()
    try:
        for launch, given, expected in (("1", 1, 1), ("2", 1, cores()), ("2", 3, 3)):
            monkeypatch.setenv("WORLD_SIZE", launch)
            torch.set_num_threads(given)
            with all_cores():
                assert torch.get_num_threads() == expected
            assert torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)
