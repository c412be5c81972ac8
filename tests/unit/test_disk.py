"""Errors of the file system: one line each, before the work where they can be known."""

import errno
import os

import pytest

from edgekd.disk import check_writable, disk_errors
from edgekd.errors import InputError


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
    with pytest.raises(InputError, match=said) as caught, disk_errors(tmp_path):
        raise OSError(code, os.strerror(code), "some/file")
    assert f"some/file ({os.strerror(code)})" in str(caught.value)


def test_other_system_errors_keep_their_traceback(tmp_path):
    with pytest.raises(OSError, match="Bad address"), disk_errors(tmp_path):
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
