"""What a killed process left is removed by the next, and nothing else ever is."""

import subprocess
import sys
import tempfile

import pytest

from edgekd.processes.scratch import MARKER, scratch_folder

HOLDER = """
import sys
from edgekd.processes.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("large")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def holder(temporary):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.folder = temporary / process.stdout.readline().strip()
    yield process
    process.kill()
    process.communicate()


def test_a_folder_lives_as_long_as_its_context(temporary):
    with scratch_folder() as folder:
        assert folder.parent == temporary
        (folder / "file").write_text("x")
        with scratch_folder() as other:
            assert other != folder
        assert (folder / "file").is_file()
    assert list(temporary.iterdir()) == []


def test_only_the_folder_of_a_killed_owner_is_removed(temporary, holder):
    users = temporary / "user"
    users.mkdir()
    (users / MARKER).touch()
    for name in ("edgekd-notes", "edgekd-notebook", "edgekd-notebooks"):
        (temporary / name).mkdir()
        (temporary / name / "mine.txt").write_text("mine")
    (temporary / "edgekd-notes" / MARKER).touch()
    (temporary / "edgekd-linkdir0").symlink_to(users)
    (temporary / "edgekd-linkmark").mkdir()
    (temporary / "edgekd-linkmark" / MARKER).symlink_to(users / MARKER)
    (temporary / "edgekd-file0000").touch()
    kept = sorted(temporary.rglob("*"))
    assert holder.folder / "inner" / "file" in kept

    with scratch_folder():
        pass
    assert sorted(temporary.rglob("*")) == kept

    holder.kill()
    holder.wait()
    with scratch_folder():
        assert not holder.folder.exists()
    assert sorted(temporary.rglob("*")) == [
        path for path in kept if path != holder.folder and holder.folder not in path.parents
    ]
