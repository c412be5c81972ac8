"""Where the phases of a distillation keep what they train.

A student alone has a folder for each phase; students that have something in common (a suite's) find
there what another of them made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# The folder of a phase, or of the teacher's trajectories, by its name and the key of its result.
Place = Callable[[str, str], Path]


def own_places(out: Path) -> Place:
    """One folder for each phase, whatever it trained last."""
    return lambda name, key: out / name


def shared_places(root: Path) -> Place:
    """One folder for each result: what several students have in common is trained once."""
    return lambda name, key: root / f"{name}-{key[:16]}"
