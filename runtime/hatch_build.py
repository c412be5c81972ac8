"""Build hook: the files of `edgekd-runtime`, from the checkout or from its own source archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# `edgekd` itself is in both distributions: the package's name and version, its errors, files and
# the reader of those that others wrote. An agent measures in processes of its own.
FILES = (
    "__init__.py", "errors.py", "file_record.py", "files.py", "reading.py", "py.typed",
    "devices/**/*.py", "measure/**/*.py", "processes/__init__.py", "processes/child.py",
    "processes/serve.py",
    "runtime/**/*.py", "serve/**/*.py", "serve/page/*.css", "serve/page/*.html",
    "serve/page/*.js", "serve/page/*.svg",
)  # fmt: skip


class TreeHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the package's files under `edgekd/`, in the wheel and in the source archive alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        # A source archive carries its files; in a checkout they are the parent's.
        package = next(
            folder for folder in (root / "edgekd", root.parent / "edgekd") if folder.is_dir()
        )
        for pattern in FILES:
            for path in sorted(package.glob(pattern)):
                name = path.relative_to(package.parent).as_posix()
                build_data["force_include"][str(path)] = name
