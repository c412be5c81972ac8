"""Exporters by name, found through the entry points `edgekd.exporters`, imported when asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from edgekd.entries import entries
from edgekd.errors import InputError
from edgekd.export.formats import formats, no_runtime
from edgekd.export.protocol import Exporter
from edgekd.runtime.registry import runtimes

GROUP = "edgekd.exporters"


def exporters() -> dict[str, EntryPoint]:
    """All installed exporters, by name, without importing any.

    Raises:
        InputError: two packages bring an exporter of the same name.
    """
    return entries(GROUP)


def get_exporter(name: str) -> Exporter:
    """Import and make the exporter of one runtime.

    Raises:
        InputError: unknown name, packages missing (the message names the install command), a
            file format, or
            the entry point leads to something that is no exporter.
    """
    known = exporters()
    if name not in known and name in formats():
        raise no_runtime(name)
    if name not in known:
        raise InputError(f"the runtime must be one of {', '.join(known) or '(none)'}", repr(name))
    entry_point = known[name]
    try:
        exporter = entry_point.load()()
    except ModuleNotFoundError as error:
        if _is_own_module(entry_point, error.name):
            raise
        raise InputError(
            f"the exporter `{name}` needs its packages",
            f"no module named `{error.name}`",
            f"Install them: pip install '{_requirement(name, entry_point)}'",
        ) from None
    if not isinstance(exporter, Exporter):
        raise InputError(
            f"`{entry_point.value}` must have all members of the Exporter protocol",
            type(exporter).__name__,
        )
    return exporter


def _is_own_module(entry_point: EntryPoint, missing: str | None) -> bool:
    """A module that the exporter's own package should contain: a defect, not a missing extra."""
    package = entry_point.module.partition(".")[0]
    return missing is None or missing.partition(".")[0] == package


def _requirement(name: str, entry_point: EntryPoint) -> str:
    """What pip installs to have an exporter's packages."""
    declared = runtimes().get(name)
    if declared is not None:
        return declared.requirement
    return entry_point.dist.name if entry_point.dist is not None else entry_point.module
