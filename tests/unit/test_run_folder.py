"""Run folders: nobody else's, one process at a time, no input inside the output."""

import os
from pathlib import Path

import pytest

from edgekd import file_record
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE, finish
from edgekd.folders import atomic_folder, finished
from edgekd.run_folder import MARKER, check_apart, check_data_apart, open_run, run_lock, verify_run


def test_lock_in_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable"), run_lock(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize(
    ("made", "kept"), [("", False), ("recipe.json", False), ("unet/checkpoint.safetensors", True)]
)
def test_a_failed_run_leaves_only_what_is_worth_keeping(tmp_path, made, kept):
    run = tmp_path / "runs" / "mine"

    def fail():
        with open_run(run, worth_keeping=("artifact.json", "checkpoint*")):
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

    def stop():
        with open_run(run):
            (run / ".prepared.0123.partial").mkdir()
            raise error

    with pytest.raises((KeyboardInterrupt, SystemExit, InputError)):
        stop()
    assert (run / ".prepared.0123.partial").is_dir()


def test_a_failed_run_leaves_a_folder_that_was_there(tmp_path):
    with pytest.raises(InputError, match="a rule"), open_run(tmp_path):
        raise InputError("a rule", "a value")
    assert tmp_path.is_dir()


@pytest.mark.parametrize("name", ["recipe.yaml", "cache/notes.txt", ".lock", "manifest.json"])
def test_a_folder_of_somebody_else_is_not_touched(tmp_path, name):
    mine = tmp_path / "work" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="with files of others"), open_run(tmp_path / "work"):
        pytest.fail("it was opened")
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", [MARKER, ".edgekd-run.lock", "artifact.json"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_odd_files_under_edgekds_names_are_one_line(tmp_path, name, make):
    make(tmp_path / name)
    with pytest.raises(InputError, match="files of others"), open_run(tmp_path):
        pytest.fail("it was opened")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_of_another_verb_is_refused(tmp_path):
    with open_run(tmp_path / "run", "teach run"):
        pass
    with (
        pytest.raises(InputError, match=r"earlier run of `edgekd distill`.*of `edgekd teach run`"),
        open_run(tmp_path / "run", "distill"),
    ):
        pytest.fail("it was opened")


def test_a_file_that_somebody_added_to_a_result_is_found_before_any_work(tmp_path):
    with open_run(tmp_path), atomic_folder(tmp_path / "export" / "fp32") as folder:
        (folder / "model").write_text("ours")
    with open_run(tmp_path):  # as it was left
        pass
    (tmp_path / "notes.txt").write_text("beside the results it may stay")
    added = tmp_path / "export" / "fp32" / "app.js"
    added.write_text("mine")
    with pytest.raises(InputError, match=r"must hold nothing.*app\.js"), open_run(tmp_path):
        pytest.fail("it was opened")
    assert added.read_text() == "mine"


def test_a_damaged_marker_is_one_line(tmp_path):
    with open_run(tmp_path):
        pass
    (tmp_path / MARKER).write_text("[" * 100_000)
    with pytest.raises(InputError, match="files of others"), open_run(tmp_path):
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ("run", True),
        ("run/distill/student", True),
        ("link", True),
        ("other", False),
        ("runs", False),
    ],
)
def test_nothing_that_is_read_lies_in_the_out_folder(tmp_path, given, refused):
    (tmp_path / "run" / "distill" / "student").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "run" / "distill")
    inputs = [("--teacher", tmp_path / given)]
    if refused:
        with pytest.raises(InputError, match="`--teacher` must lie outside the out folder"):
            check_apart(tmp_path / "run", inputs)
    else:
        check_apart(tmp_path / "run", inputs)


@pytest.mark.parametrize(
    ("out", "source", "refused"),
    [
        ("photos/run", "photos", True),
        ("photos/run", "photos/*", True),
        ("photos/run", "photos/*.parquet", False),
        ("run", "run/prepared", True),
        ("run", "run/prepared/*.tar", True),
        ("run", "photos", False),
        ("run", "starter", False),
    ],
)
def test_data_and_out_folder_lie_apart(tmp_path, monkeypatch, out, source, refused):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "run/prepared/a.tar"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    if refused:
        with pytest.raises(InputError, match="must lie outside"):
            check_data_apart(Path(out), [source])
    else:
        check_data_apart(Path(out), [source])


def test_a_first_run_that_fails_leaves_what_a_user_put_there(tmp_path):
    def fail():
        with open_run(tmp_path / "run"):
            (tmp_path / "run" / "recipe.yaml").write_text("ours")
            (tmp_path / "run" / "notes.txt").write_text("mine")
            raise InputError("a rule", "a value")

    with pytest.raises(InputError, match="a rule"):
        fail()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_the_second_of_two_first_runs_leaves_the_first_alone(tmp_path):
    with open_run(tmp_path / "run"):
        with pytest.raises(InputError, match="one process"), open_run(tmp_path / "run"):
            pytest.fail("it was opened")
        assert (tmp_path / "run" / MARKER).is_file()


@pytest.mark.parametrize("name", ["distill", "report", ".prepared.0123456789abcdef.partial"])
def test_links_in_a_run_are_refused(tmp_path, name):
    with open_run(tmp_path / "run"):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="must hold no links"), open_run(tmp_path / "run"):
        pytest.fail("it was opened")


def test_a_link_to_itself_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="links must lead somewhere"):
        check_apart(tmp_path / "loop", [("--teacher", tmp_path)])


def test_verify_finds_what_a_failing_disk_changed_in_a_large_result(tmp_path, monkeypatch):
    """Whose old files are not hashed at every reuse."""
    monkeypatch.setattr(file_record, "_hashed_since", lambda *_: 2**63)
    run, told = tmp_path / "run", list[str]()
    verify_run(run, told.append)
    with open_run(run):
        for name in ("cache", "export/fp32", "bundle/web"):
            with atomic_folder(run / name) as folder:
                (folder / "a.bin").write_bytes(b"whole")
                finish(folder, "key")
    verify_run(run, told.append)
    assert told == []
    for name in ("export/fp32", "bundle/web"):
        (run / name / "a.bin").write_bytes(b"wholf")
    assert finished(run / "export/fp32", "key")
    verify_run(run, told.append)
    (line,) = told
    assert "export/fp32/a.bin` is missing or damaged: it is made again" in line
    assert finished(run / "export/fp32", "key") is None
    assert finished(run / "cache", "key")
    assert (run / "bundle/web" / ARTIFACT_FILE).is_file()  # an app compares for itself
    with open_run(run), atomic_folder(run / "export/fp32") as folder:
        (folder / "a.bin").write_bytes(b"whole")
    assert (run / "export/fp32.set-aside-1/a.bin").read_bytes() == b"wholf"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("x")
    with pytest.raises(InputError, match="must be new, empty"):
        verify_run(tmp_path / "mine", told.append)
