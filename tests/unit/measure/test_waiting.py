import os
from pathlib import Path

import pytest

from edgekd.measure.waiting import Clocks, contention, read_clocks


def proc(root: Path, delays_ns: dict[str, int], steal_ticks: int | None = 0) -> Path:
    for thread, delay in delays_ns.items():
        file = root / "self/task" / thread / "schedstat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"5000000000 {delay} 17\n")
    if steal_ticks is not None:
        (root / "stat").write_text(f"cpu  9 9 9 9 9 9 9 {steal_ticks} 0 0\ncpu0 1 1 1 1 1 1 1 1\n")
    return root


def test_the_waits_of_all_threads_and_stolen_time_are_summed(tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    clocks = read_clocks(proc(tmp_path, {"7": 1_500_000_000, "8": 250_000_000}, 2 * ticks))
    assert clocks.waiting == pytest.approx(1.5 + 0.25 + 2.0)


def test_a_system_that_does_not_count_waits_says_nothing(tmp_path):
    assert read_clocks(tmp_path).waiting is None
    assert read_clocks(proc(tmp_path, {"7": 1_000_000}, steal_ticks=None)).waiting == 0.001


@pytest.mark.parametrize(
    ("threads", "waiting", "found"),
    [
        (1, (None, None), 1.0),  # 4 s of wall-clock, 2 s of processor time
        (2, (1.0, 4.0), 1.5),
        (2, (4.0, 1.0), 0.0),
        (2, (None, None), None),
    ],
)
def test_contention_is_waiting_over_processor_time(threads, waiting, found):
    before, after = Clocks(10, 5, waiting[0]), Clocks(14, 7, waiting[1])
    assert contention(before, after, threads) == found
