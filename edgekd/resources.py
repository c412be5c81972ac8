"""One resolver for the data that ships with edgekd.

`configs/`, `benchmarks/` and `export_targets/` stand at the top of the source
tree and inside the installed package (`edgekd/_data/`); the starter's assets
stand inside the package in both cases. `LICENSE` and `NOTICE` are beside the folders.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.errors import InputError

STARTER_NAME = "starter"
# As model cards call them.
STARTER_TEACHER, STARTER_DATA = "edgekd-starter-teacher", "edgekd-starter-emoji"
_PACKAGE = Path(__file__).resolve().parent
STARTER = _PACKAGE / "starter"


def data_root() -> Path:
    """Folder that holds `configs/`, `benchmarks/` and `export_targets/`."""
    installed = _PACKAGE / "_data"
    return installed if installed.is_dir() else _PACKAGE.parent


# Where users name a file of each kind.
_OPTIONS = {"configs": "--config", "benchmarks": "SUITE"}


def find_yaml(kind: str, name: str, option: str | None = None) -> Path:
    """Resolve a recipe or suite: a path to a YAML file, or the name of a shipped one.

    Args:
        kind: `"configs"` or `"benchmarks"`.
        name: a path that exists, or a bare name such as `starter`.
        option: what the user wrote the name behind, for the message; None: the kind's own option.

    Raises:
        InputError: neither exists; the message lists the shipped names.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return path
    folder = data_root() / kind
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    if name in known:
        return folder / f"{name}.yaml"
    found = repr(name)
    if path.exists():
        found += " (a folder)" if path.is_dir() else " (a file of another kind)"
    elif path.suffix in {".yaml", ".yml"}:
        found += " (no such file)"
    raise InputError(
        f"`{option or _OPTIONS[kind]}` must name a YAML file or one of {', '.join(known)}", found
    )
