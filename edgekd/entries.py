"""What installed packages bring to edgekd, found through entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from edgekd.errors import InputError

TERMS = "edgekd.terms"


def entries(group: str) -> dict[str, EntryPoint]:
    """All entry points of a group, by name in order, without importing any.

    Raises:
        InputError: two packages bring something of the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=group):
        other = found.setdefault(entry_point.name, entry_point)
        if other.value != entry_point.value:
            raise InputError(
                f"names in the entry-point group `{group}` must be unique",
                f"`{entry_point.name}` from {other.value} and from {entry_point.value}",
                "Uninstall one of the two packages.",
            )
    return dict(sorted(found.items()))
