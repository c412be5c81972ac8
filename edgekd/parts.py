"""The finished parts of a folder that grows over several runs, each with its hash.

A killed run goes on from them. What is not listed, or not as it was listed, is not taken for one.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from edgekd.file_record import ARTIFACT_FILE, PARTS_FILE, stamp, unchanged
from edgekd.files import is_running

# Names of half-written files: edgekd's own, and safetensors'.
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp(\..+)?|\.tmp\w{6}")


def note_part(root: Path, path: Path) -> None:
    """Say that a file below `root` is whole."""
    row = {"name": path.relative_to(root).as_posix(), **stamp(path)}
    with open(root / PARTS_FILE, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def strangers(root: Path) -> list[Path]:
    """Files of a growing folder that are neither finished parts nor half-written ones."""
    noted: dict[str, object] = {}
    if (root / PARTS_FILE).is_file():
        for line in (root / PARTS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
                noted[str(row["name"])] = row
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # torn by a kill: its part is made again
    own = {ARTIFACT_FILE, PARTS_FILE}
    files = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    return [
        path
        for path in files
        if (name := path.relative_to(root).as_posix()) not in own
        and not is_temporary(path)
        and not (name in noted and unchanged(path, noted[name]))
    ]


def is_temporary(path: Path) -> bool:
    """Whether a file was half written by a process that is gone."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or path.is_symlink() or not path.is_file():
        return False
    return match[1] is None or int(match[1]) == os.getpid() or not is_running(int(match[1]))
