import json
import subprocess
import sys

import pytest

from edgekd.artifacts import (
    atomic_folder,
    finish,
    finished,
    hash_tree,
    hash_value,
    open_run,
    read_json,
    remove_leftovers,
    run_lock,
    write_json,
)
from edgekd.errors import InputError


def test_atomic_folder_keeps_the_old_one_on_error(tmp_path):
    final = tmp_path / "out"
    with atomic_folder(final) as folder:
        (folder / "a").write_text("old")

    def fail_half_way() -> None:
        with atomic_folder(final) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert (final / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_atomic_folder_replaces(tmp_path):
    final = tmp_path / "out"
    for text in ("old", "new"):
        with atomic_folder(final) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in final.iterdir()] == ["new"]


def test_leftovers_of_a_killed_process(tmp_path):
    (tmp_path / ".gone.12.tmp").mkdir()
    (tmp_path / ".half.json.12.tmp").write_text("{")
    (tmp_path / ".moved.12.old").mkdir()
    (tmp_path / ".both.12.old").mkdir()
    (tmp_path / "both").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both", "moved"]


def test_write_json_refuses_nan_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_read_json_errors(tmp_path):
    with pytest.raises(InputError, match="must exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="must be JSON"):
        read_json(tmp_path / "a.json")


def test_finished_needs_the_same_key(tmp_path):
    assert finished(tmp_path, "k") is None
    finish(tmp_path, "k", rows=3)
    assert finished(tmp_path, "k") == {"key": "k", "rows": 3}
    assert finished(tmp_path, "other") is None


def test_hash_value_does_not_depend_on_order():
    assert hash_value({"a": 1, "b": 2}) == hash_value({"b": 2, "a": 1})
    assert hash_value({"a": 1}) != hash_value({"a": 2})


def test_hash_tree_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = hash_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = hash_tree(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, hash_tree(tmp_path)}) == 3


def test_second_process_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from edgekd.artifacts import run_lock\n"
        "from edgekd.errors import InputError\n"
        "try:\n"
        "    with run_lock(Path(sys.argv[1])): pass\n"
        "except InputError as error: print(error)"
    )
    with run_lock(tmp_path):
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
    assert "one process may work on a run folder" in result.stdout
    with run_lock(tmp_path):  # released again
        pass


def test_lock_in_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable"), run_lock(tmp_path / "file" / "run"):
        pass


def test_written_json_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": str(tmp_path)}


@pytest.mark.parametrize(
    ("made", "kept"), [("", False), ("recipe.json", False), ("unet/checkpoint.safetensors", True)]
)
def test_a_failed_run_leaves_only_what_is_worth_keeping(tmp_path, made, kept):
    run = tmp_path / "runs" / "mine"

    def fail() -> None:
        with open_run(run, ("artifact.json", "checkpoint*")):
            if made:
                (run / made).parent.mkdir(exist_ok=True)
                (run / made).write_text("{}")
            raise InputError("a rule", "a value")

    with pytest.raises(InputError):
        fail()
    assert (run.exists(), run.parent.exists()) == (kept, kept)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, InputError("a rule", "a value")])
def test_work_that_can_go_on_is_worth_keeping(tmp_path, error):
    run = tmp_path / "runs" / "mine"

    def stop() -> None:
        with open_run(run):
            (run / ".prepared.0123.partial").mkdir()
            raise error

    with pytest.raises((KeyboardInterrupt, SystemExit, InputError)):
        stop()
    assert (run / ".prepared.0123.partial").is_dir()


def test_a_failed_run_leaves_a_folder_that_was_there(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError), open_run(tmp_path):
        raise InputError("a rule", "a value")
    assert (tmp_path / "mine.txt").is_file()
