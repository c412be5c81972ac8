import shutil

import pytest

from edgekd.bundle.npm import Workspace, _reason, check_node, is_new_enough
from edgekd.errors import InputError


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("18.20.8", False),
        ("20.18.3", False),
        ("20.19.0", True),
        ("21.7.3", False),
        ("22.11.0", False),
        ("22.12.0", True),
        ("26.0.1", True),
    ],
)
def test_versions_of_node_that_vite_runs_on(version, enough):
    assert is_new_enough(version) is enough


def test_the_line_of_a_tool_that_says_what_was_wrong():
    said = "npm error code EACCES\nnpm error syscall mkdir\nnpm error permission denied\n"
    assert _reason(said, 1) == "code EACCES permission denied"
    assert _reason("\x1b[31merror during build:\x1b[0m\nno module x", 1) == "error during build:"
    assert _reason("", 4) == "exit code 4"


def test_node_without_npm_is_told_from_no_node(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="got none on the search path"):
        check_node()
    (tmp_path / "node").write_text("#!/bin/sh\necho v20.19.0\n")
    (tmp_path / "node").chmod(0o755)
    with pytest.raises(InputError, match="got node without npm on the search path"):
        check_node()


def test_room_for_the_packages_is_looked_for_first(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"room for npm's packages, about 200 MB.*100 MB.*TMPDIR"):
        Workspace(tmp_path).install("edgekd-core")
