"""Which files a job may bring: plain names, in folders below its own, of kinds that runtimes read.

The names must be safe on every system: no device of Windows, nothing that differs by case alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_FILES = 1024  # of one folder
_MAX_DEPTH, _MAX_PART = 8, 120
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+ -]*[A-Za-z0-9_+-])?")
_WINDOWS = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
# Descriptions, vocabularies and models: nothing that a runtime or Python would execute.
KINDS = (
    ".bin", ".data", ".espresso.net", ".json", ".jinja", ".mil", ".mlmodel", ".onnx", ".onnx_data",
    ".ort", ".plist", ".safetensors", ".txt", ".weights", ".xml",
)  # fmt: skip


def problem_of_files(paths: Iterable[str]) -> str | None:
    """Why these cannot be the files of a folder; None: they can.

    Args:
        paths: relative, with `/` between their parts.
    """
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        problem = _problem(path)
        if problem:
            return f"{problem}, but got {path[:200]!r}"
        low = path.lower()
        if low in seen:
            return f"files must differ by more than the case of letters, but got {path!r} twice"
        seen.add(low)
        parts = low.split("/")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    both = sorted(seen & folders)
    return f"a name must be a file or a folder, but got {both[0]!r} as both" if both else None


def _problem(path: str) -> str | None:
    parts = path.split("/")
    if len(parts) > _MAX_DEPTH:
        return f"a file must be at most {_MAX_DEPTH} folders deep"
    for part in parts:
        if len(part) > _MAX_PART or not _PART.fullmatch(part) or _WINDOWS.fullmatch(part):
            return "a path must be made of plain names below its folder"
    if not parts[-1].lower().endswith(KINDS):
        return f"a file must be one of {', '.join(KINDS)}"
    return None
