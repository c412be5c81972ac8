"""Preparation by several processes, killed or failed: the same bytes, and nothing made twice."""

import json
import time
from pathlib import Path

import psutil
import pytest

from edgekd.data import shards as shards_module
from edgekd.data.prepare import prepare
from edgekd.progress import Silent
from edgekd.recipe import DataSection

SPLIT = {"group_fraction": 0.1, "image_fraction": 0.1}

# Prepares, and kills itself without warning in the middle of the second pass.
SCRIPT = """
import json, os, psutil, signal, sys
from pathlib import Path
from edgekd.data.prepare import prepare
from edgekd.progress import Silent
from edgekd.recipe import DataSection


class Deadly(Silent):
    def __init__(self, limit):
        self.left = limit

    def track(self, label, total):
        bar = super().track(label, total)
        return Counting(self, bar) if label == "write shards" else bar


class Counting:
    def __init__(self, owner, bar):
        self.owner, self.bar = owner, bar

    def __enter__(self):
        self.bar.__enter__()

        def advance(n, resumed=False):
            self.owner.left -= n
            if self.owner.left < 0:
                print(json.dumps([child.pid for child in psutil.Process().children()]))
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        return advance

    def __exit__(self, *error):
        return self.bar.__exit__(*error)


if __name__ == "__main__":
    values, out, limit = sys.argv[1:]
    prepare(DataSection(**json.loads(values)), Path(out), Deadly(int(limit)))
"""


def section(folder: Path, workers: int = 1) -> DataSection:
    return DataSection(
        sources=[str(folder)], resolution=32, shard_samples=10, workers=workers, split=SPLIT
    )


def shard_bytes(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "shards").iterdir()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fill_folder):
    return fill_folder(tmp_path_factory.mktemp("data") / "set", 130)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, folder):
    return prepare(section(folder), tmp_path_factory.mktemp("whole") / "out", Silent())


def test_processes_do_not_change_a_byte(tmp_path, folder, whole):
    data = prepare(section(folder, workers=2), tmp_path / "prepared", Silent())
    assert data.key == whole.key
    assert shard_bytes(data.root) == shard_bytes(whole.root)


def test_killed_run_resumes_with_the_same_bytes(tmp_path, folder, whole, run_python):
    out = tmp_path / "run" / "prepared"
    settings = section(folder, workers=2)
    result = run_python(SCRIPT, settings.model_dump_json(), out, 70)
    assert result.returncode == -9, result.stderr
    assert not out.exists()
    (partial,) = out.parent.glob(".prepared.*.partial")
    done = {path.name: path.stat() for path in (partial / "shards").glob("[!.]*.tar")}
    assert 2 <= len(done) < len(shard_bytes(whole.root))

    prepare(settings, out, Silent())
    assert shard_bytes(out) == shard_bytes(whole.root)
    for name, before in done.items():
        after = (out / "shards" / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [path.name for path in out.parent.iterdir()] == ["prepared"]

    workers = json.loads(result.stdout)
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(running, workers))


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_interrupted_run_reads_no_finished_shard_again(tmp_path, folder, whole, monkeypatch):
    out = tmp_path / "prepared"
    real = shards_module.make_pixels
    made: list[bytes] = []

    def interrupted(content, image_hash, *settings):
        made.append(image_hash)
        if len(made) == 60:
            raise KeyboardInterrupt
        return real(content, image_hash, *settings)

    monkeypatch.setattr(shards_module, "make_pixels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(section(folder), out, Silent())
    assert not out.exists()
    (partial,) = tmp_path.glob(".prepared.*.partial")
    finished = len(list((partial / "shards").iterdir())) * 10
    assert not list((partial / "shards").glob(".*"))
    made.clear()
    monkeypatch.setattr(shards_module, "make_pixels", lambda *a: made.append(a[1]) or real(*a))
    prepare(section(folder), out, Silent())
    assert len(made) == 130 - finished
    assert shard_bytes(out) == shard_bytes(whole.root)


def test_other_settings_throw_the_partial_work_away(tmp_path, folder, monkeypatch):
    out = tmp_path / "prepared"
    stale = tmp_path / ".prepared.0123456789abcdef.partial"
    stale.mkdir()
    (stale / "artifact.json").write_text('{"growing": true}')
    prepare(section(folder), out, Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


FULL = """
import resource, signal, sys, json
from pathlib import Path
from edgekd.data.prepare import prepare
from edgekd.errors import InputError
from edgekd.progress import Silent
from edgekd.recipe import DataSection
if __name__ == "__main__":
    values, out = sys.argv[1:]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    try:
        prepare(DataSection(**json.loads(values)), Path(out), Silent())
    except InputError as error:
        print(error)
        sys.exit(2)
"""


def test_no_room_is_one_line_and_leaves_no_half_shard(tmp_path, folder, run_python):
    """A limit on file sizes fails writes as a full disk does, without being one."""
    out = tmp_path / "run" / "prepared"
    values = section(folder).model_copy(update={"shard_samples": 200}).model_dump_json()
    result = run_python(FULL, values, out)
    assert result.returncode == 2, result.stderr
    assert "must have room" in result.stdout
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""
    assert not out.exists()
    assert not list(out.parent.rglob("*.tar*"))
