"""Files of Linux's sysfs: one short value each, which may not be there or not be readable."""

from __future__ import annotations

from pathlib import Path

SYS = Path("/sys")


def text(path: Path) -> str | None:
    """What a file holds; None: it is not there, may not be read, or its device is asleep."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def number(path: Path) -> int | None:
    """The integer in a file; None: as `text`, or it holds something else."""
    try:
        return int(text(path) or "")
    except ValueError:
        return None
