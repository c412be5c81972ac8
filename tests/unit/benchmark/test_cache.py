import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.benchmark.cache import Cache
from edgekd.errors import InputError


def test_an_entry_is_measured_once(tmp_path: Path) -> None:
    calls = []

    def measure() -> dict[str, int]:
        calls.append(1)
        return {"value": 3}

    for _ in range(2):
        assert Cache(tmp_path).json("speed", ["a", 1], measure) == {"value": 3}
    Cache(tmp_path).json("speed", ["a", 2], measure)
    assert len(calls) == 2


def test_a_failed_measurement_leaves_no_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.tensors("features", "k", lambda: {"x": np.zeros(1 // 0)})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match="the disk must have room"):
            cache.tensors("features", "k", lambda: {"x": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_strided_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    array = np.arange(12).reshape(3, 4).T
    found = Cache(tmp_path).tensors("features", "k", lambda: {"x": array})
    assert np.array_equal(found["x"], array)


def test_pruning_removes_what_this_run_did_not_ask_for(tmp_path: Path) -> None:
    old = Cache(tmp_path)
    old.json("speed", "old", dict)
    old.tensors("pictures", "old", lambda: {"x": np.zeros(1)})
    for name in ("mine.json", f"mine-{'a' * 24}.txt"):
        (tmp_path / name).touch()
    (tmp_path / f"speed-{'a' * 24}.json").mkdir()
    new = Cache(tmp_path)
    new.json("speed", "new", dict)
    new.prune()
    kept = {new.path("speed", "new", ".json").name, "mine.json", f"mine-{'a' * 24}.txt"}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, f"speed-{'a' * 24}.json"}


@pytest.mark.parametrize("harm", [lambda text: text[:-9], lambda text: text.replace(b"3", b"4")])
def test_a_damaged_entry_is_measured_again(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    cache = Cache(tmp_path)
    for _ in range(2):
        assert cache.json("speed", "k", lambda: {"value": 3}) == {"value": 3}
        found = cache.tensors("features", "k", lambda: {"x": np.frombuffer(b"12345678", np.uint8)})
        assert found["x"].tobytes() == b"12345678"
        for path in tmp_path.iterdir():
            path.write_bytes(harm(path.read_bytes()))
