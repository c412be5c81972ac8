"""The rebuild of the starter without its packages."""

import base64
import hashlib
import stat
from pathlib import Path

import pytest
from fixtures.captioned import make_tar

from edgekd.errors import InputError
from tools.starter.build import fetch
from tools.starter.packages import EMOJIBASE, Package


def test_without_resvg_it_imports_and_says_what_to_install(tmp_path, run_python):
    code = (
        "import sys; sys.modules['resvg_py'] = None\n"
        "import importlib.util\n"
        "importlib.util.find_spec = lambda name: None\n"
        "from tools.starter.build import main\n"
        f"sys.argv = ['build', '--out', {str(tmp_path / 'x.parquet')!r}]\n"
        "sys.exit(main())"
    )
    result = run_python(code)
    assert result.returncode == 2
    assert "pip install edgekd[starter-build]" in result.stderr
    assert list(tmp_path.iterdir()) == []


def pinned(path: Path) -> Package:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return Package("some", "1.0.0", digest)


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """An `npm` that packs a prepared tarball, or fails."""

    def install(script: str) -> None:
        npm = tmp_path / "bin" / "npm"
        npm.parent.mkdir(exist_ok=True)
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")

    return install


def test_fetch_verifies_what_npm_brings(tmp_path, fake_npm):
    path = make_tar(tmp_path / "some-1.0.0.tgz", {"package/a.json": b"{}"}, "w:gz")
    fake_npm('echo "[{\\"filename\\": \\"some-1.0.0.tgz\\"}]"')
    assert fetch(pinned(path), tmp_path) == path
    with pytest.raises(InputError, match=r"some@1.0.0 must have SHA-512 AAAA"):
        fetch(Package("some", "1.0.0", "AAAA"), tmp_path)


def test_npm_that_fails_or_is_missing(tmp_path, fake_npm, monkeypatch):
    fake_npm("echo 'npm warn x' >&2; echo 'npm error 404 not found' >&2; exit 1")
    with pytest.raises(InputError, match="exit code 1 npm error 404 not found"):
        fetch(EMOJIBASE, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="`npm` must be installed"):
        fetch(EMOJIBASE, tmp_path)
