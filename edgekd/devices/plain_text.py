"""Messages for another machine: without the paths of this one."""

from __future__ import annotations

import os
import re
from pathlib import Path

MAX_LETTERS = 1000
# `/a/b/`, `C:\a\b\`, `\\server\share\`; what follows the last separator stays.
_FOLDERS = re.compile(r"""(?:(?<![\w.])[A-Za-z]:|(?<![\w.)]))[\\/]{1,2}(?:[^\s\\/'"`:,;]+[\\/])*""")


def without_paths(text: str, folder: Path | None = None) -> str:
    """A text with the names of files alone where it has absolute paths, and of bounded length.

    Args:
        folder: whose path may have spaces, which would end a path.
    """
    if folder is not None:
        text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), "")
    return _FOLDERS.sub("", text)[:MAX_LETTERS]
