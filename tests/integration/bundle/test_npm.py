"""Builds with Node that cannot be: no Node, an old one, npm that fails, is ended or interrupted;
and the page's `serve.py`.

`node` and `npm` are scripts that stand for the real ones.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures.bundles import toy_export

from edgekd.bundle.kind import template
from edgekd.errors import InputError
from edgekd.jobs.bundle import BundleRequest, bundle_run
from edgekd.progress import Silent

FAILS = """echo 'npm error code ENOTFOUND'
echo 'npm error syscall getaddrinfo'
echo 'npm error network request to https://example.org/vite failed, reason: getaddrinfo' >&2
echo 'npm error A complete log of this run can be found in: /home/x/y.log'
exit 1"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return toy_export(tmp_path_factory.mktemp("toy") / "export")


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    """A search path with nothing but these."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    write(folder / "node", "echo v20.19.0")
    return folder


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("kind", ["web", "node"])
@pytest.mark.parametrize(
    ("node", "npm", "said"),
    [
        ("echo v18.20.1", "exit 0", "Node.js 22.12 or newer, or 20.19 .* must be .* got 18.20.1"),
        ("echo v22.5.0", "exit 0", "Node.js 22.12 or newer, or 20.19 .* must be .* got 22.5.0"),
        ("exit 3", "exit 0", "Node.js 22.12 or newer, or 20.19 .* must be .* got none"),
        ("echo v24.1.0", FAILS, r"`npm ci` must succeed, but got code ENOTFOUND network request"),
        ("echo v24.1.0", "kill -TERM $$", "`npm ci` must run to its end, but got SIGTERM"),
        ("echo v24.1.0", "exit 0", "`vite build` must succeed"),
    ],
)
def test_one_line_says_it_and_nothing_is_left(tools, toy, tmp_path, node, npm, said, kind):
    # Whatever `node` is asked for but its version fails.
    write(tools / "node", f'[ "$1" = --version ] || exit 7\n{node}')
    write(tools / "npm", npm)
    out = tmp_path / "out" / "bundle"
    with pytest.raises(InputError, match=said) as found:
        bundle_run(BundleRequest(toy, kind, out), Silent())
    assert "\n" not in str(found.value)
    assert not out.exists()
    assert [*(tmp_path / "scratch").iterdir()] == []
    assert not out.parent.exists() or [*out.parent.iterdir()] == []


def test_an_interrupt_ends_npm_too_and_leaves_nothing(tools, toy, tmp_path):
    write(tools / "npm", 'echo $$ > "$TMPDIR/../npm.pid"\nexec sleep 100')
    out = tmp_path / "out" / "bundle"
    code = "from edgekd.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "bundle", str(toy), "--for", "node", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    number = tmp_path / "npm.pid"
    while not (number.is_file() and number.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)
    assert not out.exists()
    assert [*(tmp_path / "scratch").iterdir()] == []


def test_serve_py_says_in_a_line_which_port_to_try():
    def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(template("web") / "serve.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = serve(str(port))
    assert found.returncode == 1
    assert found.stderr.startswith(f"port {port} cannot be used (")
    assert len(found.stderr.splitlines()) == 1
    assert "the port must be between 0 and 65535, but got 70000" in serve("70000").stderr
