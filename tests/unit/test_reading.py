"""Files of any kind and content end in a value or in one line."""

import os

import pytest

from edgekd import reading
from edgekd.errors import InputError


def test_a_file_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"é": [1, {"b": null}]}', encoding="utf-8")
    assert reading.read_object(tmp_path / "a.json") == {"é": [1, {"b": None}]}


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "absent", "loop", "odd name"])
def test_what_never_ends_is_not_opened(kind, tmp_path):
    path = tmp_path / "manifest.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "odd name":
        path = tmp_path / "a\0b"
    with pytest.raises(InputError, match=r"must be a re|must exist"):
        reading.read_json(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 10**5, b"[" * 99 + b"]" * 99, b"9" * 9999]
)
def test_what_is_no_json(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match="must be"):
        reading.read_json(tmp_path / "a.json")


def test_size_and_depth_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("[" * 64 + "]" * 64)
    assert reading.read_json(path)
    monkeypatch.setattr(reading, "_MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most 100 bytes"):
        reading.read_json(path)
