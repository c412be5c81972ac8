from edgekd.benchmark.workers import pool_size


def test_pool_is_as_large_as_work_and_memory_allow():
    assert pool_size(3, batches=2, largest_bytes=1)[0] == 2
    assert pool_size(1, batches=9, largest_bytes=1)[0] == 1
    assert pool_size(0, batches=9, largest_bytes=2**50)[0] == 1
    count, threads = pool_size(0, batches=10**6, largest_bytes=1)
    assert count >= 1
    assert threads >= 1
