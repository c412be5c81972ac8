"""Apps in TypeScript, built with Node: `npm ci` from a lock file, then Vite.

All of it happens in a temporary folder. npm keeps what it downloaded in its own cache, so that
later bundles need no network.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.bundle.copying import check_room, copy_tree
from edgekd.errors import InputError
from edgekd.resources import data_root

# As Vite needs it.
NODE_RULE = "Node.js 22.12 or newer, or 20.19 to 20.x, with npm, must be installed"
_HOW = "The app is built with it; get it from https://nodejs.org or your system's packages."
_PACKAGES_BYTES = 200_000_000  # unpacked, at most
_LONG = 30 * 60  # seconds; nothing here takes as long on a slow machine and network


def node_version() -> str | None:
    """Version of the `node` that the search path finds, as "20.19.1"; None: there is none."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        return None
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v(\d+\.\d+\.\d+)", answer.stdout)
    return found[1] if found else None


def is_new_enough(version: str) -> bool:
    """Whether Vite runs on this version of Node."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return (major, minor) >= ((22, 12) if major > 20 else (20, 19))


def check_node() -> None:
    """See that the apps can be built here.

    Raises:
        InputError: no Node, or one that is too old.
    """
    version = node_version()
    if version is None:
        raise InputError(NODE_RULE, _what_is_missing(), _HOW)
    if not is_new_enough(version):
        raise InputError(NODE_RULE, version, _HOW)


def _what_is_missing() -> str:
    without_npm = shutil.which("node") is not None and shutil.which("npm") is None
    return "node without npm on the search path" if without_npm else "none on the search path"


@dataclass(frozen=True)
class Workspace:
    """A copy of the apps' sources, in which they are built.

    Attributes:
        root: laid out as `export_targets/` is.
    """

    root: Path

    def install(self, *packages: str) -> None:
        """Install what these npm packages of the workspace `web` need, and the build tool.

        Raises:
            InputError: no room, npm failed, or was ended.
        """
        # npm itself says nothing of files for which there is no room.
        check_room(self.root, _PACKAGES_BYTES, "npm's packages", "set TMPDIR to another folder")
        npm = shutil.which("npm")
        if npm is None:
            raise InputError(NODE_RULE, _what_is_missing(), _HOW)
        chosen = [word for name in packages for word in ("--workspace", name)]
        options = ["--include-workspace-root", "--omit=dev", "--ignore-scripts", "--prefer-offline"]
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        command = [npm, "ci", *chosen, *options, *quiet]
        run(command, self.root / "web", "npm ci", "Check the network, and run again.")

    def build(self, app: str, environment: Mapping[str, str] | None = None) -> Path:
        """Build the app in a folder of the workspace, and return what was built.

        Raises:
            InputError: Vite failed, or was ended.
        """
        folder = self.root / app
        vite = self.root / "web" / "node_modules" / "vite" / "bin" / "vite.js"
        node = shutil.which("node") or "node"
        command = [node, str(vite), "build", "--config", "vite.config.mjs"]
        run(command, folder, "vite build", environment=environment)
        return folder / "dist"


@contextlib.contextmanager
def workspace() -> Iterator[Workspace]:
    """A temporary copy of the sources of all apps in TypeScript.

    Raises:
        InputError: no room.
    """
    source = data_root() / "export_targets"
    with tempfile.TemporaryDirectory(prefix="edgekd-npm-", ignore_cleanup_errors=True) as folder:
        root = Path(folder).resolve()
        copy_tree(source / "web", root / "web")
        copy_tree(source / "node" / "app", root / "node" / "app")
        yield Workspace(root)


def run(
    command: Sequence[str],
    folder: Path,
    what: str,
    fix: str = "",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a tool of Node to its end; what it started ends with it.

    Raises:
        InputError: it failed or was ended; the message has the last line of what it said.
    """
    # A group of its own: npm's children are to end with it.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=_LONG)
    except subprocess.TimeoutExpired:
        raise InputError(f"`{what}` must end", f"nothing in {_LONG // 60} minutes", fix) from None
    finally:
        _end(process)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise InputError(f"`{what}` must run to its end", f"{name}, a signal from outside", fix)
    if process.returncode:
        raise InputError(f"`{what}` must succeed", _reason(said, process.returncode), fix)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _reason(said: str, code: int) -> str:
    """The line of a tool's output that says what was wrong."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    lines = [line.removeprefix("npm error").strip() for line in plain.splitlines()]
    # npm begins with its own name for the problem, and ends with where its log is.
    telling = [line for line in lines if line and "complete log" not in line and ".log" not in line]
    code_lines = [line for line in telling if line.startswith("code ")]
    rest = [line for line in telling if not line.startswith(("code ", "syscall ", "errno "))]
    told = " ".join([*code_lines[:1], *rest[:1]])[:300]
    return told or f"exit code {code}"
