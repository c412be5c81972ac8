from edgekd.data.workers import worker_count, worker_pool
from edgekd.processes.pool import Pool


def test_small_work_starts_no_processes():
    assert worker_count(0, 100) == 1
    assert worker_count(3, 100) == 3
    assert worker_count(0, None) >= 1
    with worker_pool(1) as pool:
        assert pool is None
    with worker_pool(2) as pool:
        assert isinstance(pool, Pool)
