import errno
import hashlib
import os

import pytest

from edgekd.devices import store as module
from edgekd.devices.store import FullDiskError, MissingFileError, Store
from edgekd.serve.problems import Problem

CONTENT = bytes(range(256)) * 4  # 1024 bytes


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


DIGEST = digest_of(CONTENT)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path, 4096, 10_000)


def put(store: Store, content: bytes, chunk: int = 400) -> str:
    for offset in range(0, max(len(content), 1), chunk):
        part = content[offset : offset + chunk]
        store.append(digest_of(content), len(content), offset, part)
    return digest_of(content)


def state(store: Store, digest: str) -> tuple[int, bool]:
    (found,) = store.states([digest])
    return found.received, found.complete


def refused(store: Store, *arguments: object) -> Problem:
    with pytest.raises(Problem) as caught:
        store.append(*arguments)  # type: ignore[arg-type]
    return caught.value


def names(folder) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_comes_in_chunks_and_stays(store, tmp_path):
    assert state(store, DIGEST) == (0, False)
    store.append(DIGEST, 1024, 0, CONTENT[:400])
    assert state(store, DIGEST) == (400, False)
    assert state(Store(tmp_path, 4096, 10_000), DIGEST) == (400, False)  # after a restart
    store.append(DIGEST, 1024, 400, CONTENT[400:])
    assert state(store, DIGEST) == (1024, True)
    again = Store(tmp_path, 4096, 10_000)
    assert state(again, DIGEST) == (1024, True)
    assert again.append(DIGEST, 1024, 0, b"x").complete  # a host that asks twice
    assert names(tmp_path) == {DIGEST}


def test_a_file_may_be_empty(store):
    assert state(store, put(store, b"")) == (0, True)


def test_chunks_must_follow_each_other(store):
    store.append(DIGEST, 1024, 0, CONTENT[:400])
    found = refused(store, DIGEST, 1024, 300, CONTENT[300:])
    assert (found.status, found.code) == (409, "wrong_offset")
    assert found.body()["error"]["received"] == 400
    assert refused(store, DIGEST, 1025, 400, CONTENT[400:]).code == "wrong_size"
    assert refused(store, DIGEST, 1024, 400, b"").code == "invalid_value"
    assert refused(store, DIGEST, 1024, 400, bytes(1000)).code == "invalid_value"
    assert state(store, DIGEST) == (400, False)


def test_a_file_that_was_begun_with_a_wrong_size_begins_again(store, tmp_path):
    store.append(DIGEST, 1500, 0, CONTENT[:400])
    store.append(DIGEST, 1024, 0, CONTENT[:300])
    assert state(store, DIGEST) == (300, False)
    assert names(tmp_path) == {f"{DIGEST}.1024"}


def test_other_content_than_the_hash_says_is_dropped(store, tmp_path):
    store.append(DIGEST, 1024, 0, CONTENT[:400])
    assert refused(store, DIGEST, 1024, 400, bytes(624)).code == "hash_mismatch"
    assert state(store, DIGEST) == (0, False)
    assert names(tmp_path) == set()
    assert state(store, put(store, CONTENT)) == (1024, True)


def test_a_file_is_refused_by_the_size_that_it_says(store, tmp_path):
    found = refused(store, DIGEST, 2_000_000_000, 0, CONTENT[:10])
    assert (found.status, found.code) == (413, "file_too_large")
    assert names(tmp_path) == set()


def test_the_least_recently_used_leaves(store, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "time", lambda: float(next(clock)))
    one, two = (put(store, bytes([n]) * 4000, 4000) for n in range(2))
    store.states([one])  # used again
    three = put(store, bytes([2]) * 4000, 4000)
    assert [state(store, digest)[1] for digest in (one, two, three)] == [True, False, True]


def test_files_of_jobs_stay(store):
    one, two = (put(store, bytes([n]) * 4000, 4000) for n in range(2))
    assert store.pin([one, two, one]) == []
    found = refused(store, DIGEST, 4000, 0, CONTENT)
    assert (found.status, found.code) == (413, "store_full")
    assert state(store, one)[1]  # nothing left in vain
    store.unpin([one, two])
    store.append(DIGEST, 1024, 0, CONTENT)
    assert state(store, DIGEST)[1]


def test_what_a_job_misses_is_named_and_nothing_pinned(store):
    one = put(store, CONTENT)
    store.append(digest_of(b"ab"), 2, 0, b"a")
    assert store.pin([one, digest_of(b"ab"), "0" * 64]) == sorted([digest_of(b"ab"), "0" * 64])
    put(store, bytes(4000), 4000)
    put(store, b"\x01" * 4000, 4000)
    put(store, b"\x02" * 4000, 4000)
    assert not state(store, one)[1]


def test_a_begun_file_that_nobody_goes_on_with_leaves(store):
    for number in range(5):
        store.append(digest_of(bytes([number])), 4000, 0, b"x")
    assert sum(state(store, digest_of(bytes([n])))[0] for n in range(5)) == 2


def test_a_full_disk_is_a_problem_of_the_request(store, monkeypatch, tmp_path):
    store.append(DIGEST, 1024, 0, CONTENT[:400])
    real = open

    class Full:
        """A disk with room for 100 bytes more."""

        def __init__(self, *arguments, **options):
            self.file = real(*arguments, **options)
            self.room = 100

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written, self.room = self.file.write(content[: self.room]), 0
            return written

    monkeypatch.setattr(module, "open", Full, raising=False)
    found = refused(store, DIGEST, 1024, 400, CONTENT[400:])
    assert (found.status, found.code) == (413, "disk_full")
    monkeypatch.undo()
    assert state(store, DIGEST) == (400, False)
    assert (tmp_path / "partial" / f"{DIGEST}.1024").stat().st_size == 400
    store.append(DIGEST, 1024, 400, CONTENT[400:])
    assert state(store, DIGEST)[1]


def test_a_disk_without_room_takes_no_file_and_loses_none(store, monkeypatch):
    one = put(store, CONTENT)
    usage = module.shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    assert refused(store, digest_of(b"x"), 4000, 0, b"x").code == "disk_full"
    assert state(store, one)[1]
    store.append(digest_of(b"y"), 1500, 0, b"y")  # in the place of the other one
    assert not state(store, one)[1]


def test_a_jobs_files_are_copies_in_their_places(store, tmp_path):
    digest = put(store, CONTENT)
    with store.folder_of("job") as folder:
        store.lay_out({"unet/model.onnx": digest, "a.json": digest}, folder)
        path = folder / "unet" / "model.onnx"
        assert path.read_bytes() == CONTENT
        assert (path.stat().st_nlink, path.is_symlink()) == (1, False)
        path.write_bytes(b"changed")
    assert names(tmp_path) == {DIGEST}
    assert state(store, digest)[1]


def test_copies_that_the_disk_has_no_room_for_are_refused_before_any_is_made(store, monkeypatch):
    """One file may be named as often as a job has places."""
    digest = put(store, CONTENT)
    usage = module.shutil.disk_usage("/")._replace(free=3000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    store.check_room([digest] * 2)
    with pytest.raises(FullDiskError, match="3072 bytes of files, 3000 free"):
        store.check_room([digest] * 3)


def test_a_damaged_file_is_not_measured(store, tmp_path):
    digest = put(store, CONTENT)
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(bytes(1024))
    with store.folder_of("job") as folder, pytest.raises(MissingFileError):
        store.lay_out({"a.json": digest}, folder)
    assert state(store, digest) == (0, False)
    with store.folder_of("job") as folder, pytest.raises(MissingFileError):
        store.lay_out({"a.json": digest}, folder)


def test_a_disk_that_is_full_when_a_job_begins(store, monkeypatch):
    digest = put(store, CONTENT)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "open", full, raising=False)
    with store.folder_of("job") as folder, pytest.raises(FullDiskError):
        store.lay_out({"a.json": digest}, folder)


def test_what_is_no_file_of_the_store_is_passed_over(tmp_path):
    for name in ("partial", "work/job", "blobs/ab"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "partial" / "x").write_bytes(b"")
    (tmp_path / "partial" / f"{DIGEST}.10").write_bytes(bytes(10))  # it ended in the check
    (tmp_path / "blobs" / "ab" / "x").write_bytes(b"")
    (tmp_path / "blobs" / "ab" / ("ab" * 32)).symlink_to("/etc/passwd")
    store = Store(tmp_path, 10, 10)
    assert state(store, DIGEST) == (0, False)
    assert state(store, "ab" * 32) == (0, False)
    assert list((tmp_path / "work").iterdir()) == []
