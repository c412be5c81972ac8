"""Kinds of bundle by name, found through the entry points `edgekd.bundles`."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from edgekd.bundle.kind import Kind
from edgekd.entries import entries
from edgekd.errors import InputError

GROUP = "edgekd.bundles"


def kinds() -> dict[str, EntryPoint]:
    """All installed kinds, by name, without importing any.

    Raises:
        InputError: two packages bring a kind of the same name.
    """
    return entries(GROUP)


def get_kind(name: str) -> Kind:
    """Import the kind of a name.

    Raises:
        InputError: unknown name, or the entry point leads to something that is no kind.
    """
    known = kinds()
    if name not in known:
        raise InputError(f"`--for` must be one of {', '.join(known) or '(none)'}", repr(name))
    kind = known[name].load()
    if not isinstance(kind, Kind) or kind.name != name:
        raise InputError(
            f"`{known[name].value}` must have all members of the Kind protocol, and the name "
            f"`{name}`",
            type(kind).__name__,
        )
    return kind
