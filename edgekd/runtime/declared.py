"""What a runtime declares of itself, told without importing any of its packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgekd.errors import InputError
from edgekd.runtime.backend import Backend
from edgekd.runtime.options import RuntimeOptions


@dataclass(frozen=True)
class Runtime:
    """One runtime; found through `edgekd.runtime.registry.runtimes`.

    Attributes:
        name: as targets and manifests have it, and its extra of edgekd-runtime.
        packages: distributions that take part, by which figures are known and exports are keyed.
            The first runs exported folders.
        requirement: what pip installs to have them all.
        backend: opens an exported folder for `edgekd.runtime`; None: there is none.
        platform: `sys.platform` of the machines that execute it; empty: all.
    """

    name: str
    packages: tuple[str, ...]
    requirement: str = "edgekd"
    backend: Callable[[Path, RuntimeOptions], Backend] | None = None
    platform: str = ""

    def executes_here(self) -> bool:
        return self.platform in ("", sys.platform)

    def versions(self) -> dict[str, str]:
        return versions(self.packages)

    def not_installed(self) -> InputError:
        """What to say where the package that runs exported folders is missing."""
        package = self.packages[0]
        return InputError(
            f"{package} must be installed to run this folder",
            "no such package",
            f"Run `pip install {package}`, or install edgekd-runtime with its extra `{self.name}`.",
        )


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed version of each distribution; those that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
