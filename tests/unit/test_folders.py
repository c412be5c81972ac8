"""Only edgekd's own folders are replaced, and a damaged one is not taken for whole."""

import json
import os
from pathlib import Path

import pytest

from edgekd.errors import DiskError, GateError, InputError, LostError, MemoryGateError
from edgekd.file_record import ARTIFACT_FILE, check_given, finish
from edgekd.folders import atomic_folder, check_replaceable, finished, resumable_folder, tidy
from edgekd.parts import note_part

GONE = 2**22 + 1  # no process has this number


def make(final: Path, **files: str) -> Path:
    with atomic_folder(final) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        finish(folder, "key", rows=3)
    return final


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced(tmp_path):
    make(tmp_path / "out", old="1")
    make(tmp_path / "out", new="2")
    assert names(tmp_path / "out") == [ARTIFACT_FILE, "new"]
    assert names(tmp_path) == ["out"]


def test_the_old_folder_stays_on_an_error(tmp_path):
    final = make(tmp_path / "out", a="old")

    def fail_half_way():
        with atomic_folder(final) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert (final / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_finished_needs_the_same_key(tmp_path):
    assert finished(tmp_path / "none", "key") is None
    facts = finished(make(tmp_path / "out", a="1"), "key")
    assert facts["rows"] == 3
    assert finished(tmp_path / "out", "other") is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda out: (out / "a").unlink(),
        lambda out: (out / "a").write_text("cut"),
        lambda out: (out / "a").write_text("flipped!"),
        lambda out: ((out / "a").unlink(), (out / "a").symlink_to("/dev/zero")),
        lambda out: (out / ARTIFACT_FILE).unlink(),
        lambda out: os.truncate(out / ARTIFACT_FILE, 9),
        lambda out: (out / ARTIFACT_FILE).write_text("{}"),
        lambda out: (out / ARTIFACT_FILE).write_text("[" * 100_000),
        lambda out: (out / ARTIFACT_FILE).write_text('{"key": "key", "files": {"a": []}}'),
        lambda out: (out / ARTIFACT_FILE).write_text('{"key": "key", "files": {"a": {}}}'),
    ],
)
def test_damage_is_found_and_made_good(tmp_path, harm):
    out = make(tmp_path / "out", a="original")
    harm(out)
    said: list[str] = []
    assert finished(out, "key", said.append) is None
    assert len(said) == (out / ARTIFACT_FILE).exists()
    assert all("made again" in line for line in said)
    make(out, a="original")
    assert finished(out, "key") is not None


def test_a_flipped_byte_is_found_though_size_and_time_are_as_they_were(tmp_path):
    out = make(tmp_path / "out", a="original")
    state = (out / "a").stat()
    (out / "a").write_text("0riginal")
    os.utime(out / "a", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert finished(out, "key") is None


def test_a_given_folder_has_the_weights_that_it_was_finished_with(tmp_path):
    """Cards and settings are edited, a device leaves files out, and others write no record."""
    with atomic_folder(tmp_path / "a") as folder:
        for name in ("model.onnx", "encoder.onnx", "config.json", "README.md"):
            (folder / name).write_text("whole")
    folder = tmp_path / "a"
    (folder / "README.md").write_text("mine")
    (folder / "config.json").write_text("{}")
    (folder / "encoder.onnx").unlink()
    check_given(folder)
    for harmed in ("wholf", "who"):
        (folder / "model.onnx").write_text(harmed)
        with pytest.raises(InputError, match=r"weights of a finished folder .*a/model\.onnx"):
            check_given(folder)
    for text in ("{}", "[]", "[" * 10**5, '{"files": 3}', '{"files": {"model.onnx": 3}}'):
        (folder / ARTIFACT_FILE).write_text(text)
        check_given(folder)
    (folder / ARTIFACT_FILE).unlink()
    check_given(folder)


def test_links_are_results_too(tmp_path):
    (tmp_path / "weights").write_text("large")
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "weights").symlink_to(tmp_path / "weights")
        finish(folder, "key")
    assert finished(tmp_path / "out", "key") is not None
    check_replaceable(tmp_path / "out")
    (tmp_path / "out" / "weights").unlink()
    (tmp_path / "out" / "weights").symlink_to(tmp_path / "others")
    assert finished(tmp_path / "out", "key") is None


@pytest.mark.parametrize("added", ["app.js", "deep/down/app.js", "empty"])
def test_a_foreign_file_protects_a_folder(tmp_path, added):
    out = make(tmp_path / "out", a="1")
    mine = out / added
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match="nothing but edgekd's own files"):
        check_replaceable(out)
    with pytest.raises(InputError, match="nothing but edgekd's own files"):
        make(out, a="2")
    assert (mine.read_text(), (out / "a").read_text()) == ("mine", "1")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["manifest", "artifact", "link", "dangling", "file"])
def test_what_is_not_edgekds_is_refused(tmp_path, kind):
    out = tmp_path / "out"
    if kind in ("manifest", "artifact"):
        out.mkdir()
        (out / f"{kind}.json").write_text('{"name": "my web app"}')
    elif kind == "link":
        out.symlink_to(make(tmp_path / "real", a="1"))
    elif kind == "dangling":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.write_text("mine")
    before = os.lstat(out)
    with pytest.raises(InputError, match="must be a new or empty folder"):
        check_replaceable(out)
    assert os.lstat(out).st_ino == before.st_ino


def test_what_a_desktop_drops_protects_nothing(tmp_path):
    out = make(tmp_path / "out", a="1")
    (out / ".DS_Store").write_text("")
    check_replaceable(out)


def test_a_result_without_a_readable_record_is_set_aside(tmp_path):
    out = make(tmp_path / "out", a="1")
    (out / ARTIFACT_FILE).write_text("{")
    make(out, a="2")
    assert (tmp_path / "out.set-aside-1" / "a").read_text() == "1"
    assert (out / "a").read_text() == "2"


def test_only_a_killed_process_s_own_leftovers_go(tmp_path):
    half = tmp_path / f".out.{GONE}.tmp"
    make(half, a="1")
    (half / ARTIFACT_FILE).write_text('{"growing": true}')
    others = [f".out.{GONE}.tmp.txt", ".out.12.tmp~", ".notes.tmp", f".other.{GONE}.tmp"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / f".out.{GONE + 1}.tmp").mkdir()  # the right name, and not a mark of edgekd's in it
    tidy(tmp_path / "out")
    assert names(tmp_path) == sorted([*others, f".out.{GONE + 1}.tmp"])


@pytest.mark.parametrize("arrived", [True, False])
def test_a_folder_that_was_moved_aside_comes_back(tmp_path, arrived):
    make(tmp_path / "out", a="old").rename(tmp_path / f".out.{GONE}.old")
    if arrived:
        make(tmp_path / "new", a="new").rename(tmp_path / "out")
    facts = finished(tmp_path / "out", "key")
    assert facts is not None
    assert (tmp_path / "out" / "a").read_text() == ("new" if arrived else "old")
    assert names(tmp_path) == ["out"]


def test_work_for_another_key_is_thrown_away_and_nothing_else(tmp_path):
    final, mine = tmp_path / "out", tmp_path / f".out.{'c' * 16}.partial"
    mine.mkdir()

    def stop(key):
        with resumable_folder(final, key * 16) as folder:
            (folder / "part").write_text(key)
            note_part(folder, folder / "part")
            raise KeyboardInterrupt

    for key in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            stop(key)
    assert names(tmp_path) == sorted([f".out.{'b' * 16}.partial", mine.name])
    with resumable_folder(final, "b" * 16) as folder:
        assert (folder / "part").read_text() == "b"
        finish(folder, "b" * 16)
    assert names(final) == [ARTIFACT_FILE, "part"]
    assert json.loads((final / ARTIFACT_FILE).read_text())["files"].keys() == {"part"}


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (InputError("`x` must be a number", "a word"), False),
        (GateError("pictures must be finite", "NaN"), False),
        (DiskError("the disk must have room for the output", "part"), True),
        (MemoryGateError("the work must fit in the memory", "a killed process"), True),
        (LostError("the head must live", "no answer"), True),
    ],
)
def test_parts_outlive_what_is_no_fault_of_the_input(tmp_path, error, kept):
    final = tmp_path / "out"

    def fail():
        with resumable_folder(final, "a" * 16) as folder:
            (folder / "part").write_text("1")
            note_part(folder, folder / "part")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ([f".out.{'a' * 16}.partial"] if kept else [])
    with resumable_folder(final, "a" * 16) as folder:
        assert (folder / "part").exists() == kept
        finish(folder, "a" * 16)


def test_what_is_no_finished_part_is_set_aside(tmp_path):
    """A part that was damaged after a kill, and whatever somebody put beside it."""
    final, partial = tmp_path / "out", tmp_path / f".out.{'a' * 16}.partial"

    def stop():
        with resumable_folder(final, "a" * 16) as folder:
            for name in ("cut", "flipped", "whole"):
                (folder / name).write_text(name)
                note_part(folder, folder / name)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    (partial / "cut").write_text("cu")
    (partial / "flipped").write_text("flippEd")
    (partial / "notes.txt").write_text("mine")
    (partial / f".late.{GONE}.tmp.json").write_text("half")
    (partial / ".draft.tmp").mkdir()
    with resumable_folder(final, "a" * 16) as folder:
        assert names(folder) == [".draft.tmp", ".parts.jsonl", ARTIFACT_FILE, "whole"]
        finish(folder, "a" * 16)
    assert names(tmp_path / "out.set-aside-1") == ["cut", "flipped", "notes.txt"]
    assert names(final) == [".draft.tmp", ARTIFACT_FILE, "whole"]


def test_a_number_that_came_back_is_no_living_process(tmp_path):
    """In a container each run may have the number of the one that was killed."""
    name = f".out.{os.getpid()}.tmp"
    (tmp_path / name).mkdir()
    (tmp_path / name / ARTIFACT_FILE).write_text('{"growing": true}')
    make(tmp_path / "out", a="1")
    assert names(tmp_path) == ["out"]


def test_what_somebody_changed_is_not_replaced(tmp_path):
    out = make(tmp_path / "out", a="1")
    (out / "a").write_text("my edit")
    with pytest.raises(InputError, match="with `a` in it"):
        check_replaceable(out)
    make(out, a="2")  # as a result in a run folder
    assert (tmp_path / "out.set-aside-1" / "a").read_text() == "my edit"
