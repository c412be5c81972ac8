"""Which parts are large: a second copy of their weights in memory would count.

Runtimes lay weights out anew for their kernels when they open a part, and keep the original or the
copy's scraps beside it. In deployment that is speed; in a parity check it is only memory, and the
check of a large part does without what can be left out.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Of files: an 8-bit U-Net of Stable Diffusion 1.5 is beyond it, and is 3.4 GB in float32.
LARGE_PART_BYTES = 250_000_000


def is_large(part: Path) -> bool:
    """Whether the files of a converted part are large."""
    files = (file for file in part.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files) > LARGE_PART_BYTES


class Turns:
    """Parts of a pipeline that are in memory one at a time: text encoders, U-Net and decoder work
    one after the other anyhow.

    Args:
        opened: is called with a part before it works.
        closed: is called with a part when another one's turn comes.
    """

    def __init__(self, opened: Callable[[Any], None], closed: Callable[[Any], None]) -> None:
        self._opened = opened
        self._closed = closed
        self._at_work: Any = None

    def add(self, part: Any) -> None:
        """Take in an optimum part, open or not: its `forward` waits for its turn from now on."""
        self._closed(part)
        forward = part.forward

        def in_turn(*args: Any, **kwargs: Any) -> Any:
            self._give(part)
            return forward(*args, **kwargs)

        part.forward = in_turn

    def _give(self, part: Any) -> None:
        if self._at_work is part:
            return
        if self._at_work is not None:
            self._closed(self._at_work)
            gc.collect()
        self._opened(part)
        self._at_work = part
