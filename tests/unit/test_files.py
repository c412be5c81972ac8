"""Files are written whole or not at all; a file system's errors are one line each."""

import errno
import json
import os

import pytest

from edgekd import files
from edgekd.errors import InputError
from edgekd.files import (
    atomic_file,
    check_writable,
    code_key,
    hash_tree,
    hash_value,
    write_json,
    write_text,
    writing,
)
from edgekd.reading import read_json


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "must have room"),
        (errno.EDQUOT, "must have room"),
        (errno.EROFS, "must be writable"),
        (errno.EACCES, "must be writable"),
        (errno.ENOTDIR, "must be writable"),
        (errno.ENAMETOOLONG, "must be writable"),
    ],
)
def test_errors_of_the_disk_are_input_errors(tmp_path, code, said):
    with pytest.raises(InputError, match=said) as caught, writing(tmp_path):
        raise OSError(code, os.strerror(code), "some/file")
    assert f"some/file ({os.strerror(code)})" in str(caught.value)


def test_other_system_errors_keep_their_traceback(tmp_path):
    with pytest.raises(OSError, match="Bad address"), writing(tmp_path):
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))


@pytest.mark.parametrize("name", ["new", "new/deeper", "."])
def test_a_writable_place_is_left_as_it_was(tmp_path, name):
    check_writable(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "out", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match="the out folder must be writable") as caught:
            check_writable(out)
        assert f"but got {out} (" in str(caught.value)


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


def test_written_json_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": str(tmp_path)}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_is_replaced_whole_or_stays(tmp_path, error):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail():
        with atomic_file(path) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_file_go_by_their_exact_name(tmp_path):
    gone, alive = 2**22 + 1, os.getppid()
    left = tmp_path / f".recipe.{gone}.tmp.yaml"
    others = (".notes.tmp", ".env.old", ".recipe.tmp.yaml", ".recipe.1x.tmp.yaml")
    others = (*others, f".recipe.{alive}.tmp.yaml", f".other.{gone}.tmp.yaml")
    for name in (left.name, *others):
        (tmp_path / name).write_text("mine")
    write_text(tmp_path / "recipe.yaml", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", *others}


def test_deeply_nested_json_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="must be JSON"):
        read_json(tmp_path / "a.json")


def test_code_of_a_checkout_is_known_by_its_sources():
    assert len(code_key()) == 64


@pytest.mark.parametrize(
    ("name", "counts"),
    [("a.py", True), ("page.j2", True), ("search/table.yaml", True), ("starter/a.json", False)],
)
def test_a_table_of_the_code_is_code(tmp_path, monkeypatch, name, counts):
    package = tmp_path / "edgekd"
    file = package / name
    file.parent.mkdir(parents=True)
    file.write_text("before")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(files, "_PACKAGE", package)
    key = code_key.__wrapped__  # what is cached is the key of this package
    before = key()
    file.write_text("after")
    assert (key() != before) == counts
