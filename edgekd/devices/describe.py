"""What this machine is, for those who measure on it."""

from __future__ import annotations

import sys

from edgekd import __version__
from edgekd.devices.schema import Description, DeviceLimits, RuntimeInfo
from edgekd.measure.environment import cores, environment
from edgekd.runtime.declared import Runtime
from edgekd.runtime.registry import runtimes

_MEMORY_SHARE = 0.8  # of the machine's, for a process that measures


def describe(name: str, device_class: str | None, limits: DeviceLimits | None) -> Description:
    """A description of this machine.

    Args:
        device_class: None: told from the processor.
    """
    return Description(
        name=name,
        device_class=device_class or default_class(),
        edgekd=__version__,
        environment=environment(),
        runtimes=tuple(_info(runtime) for runtime in runtimes().values()),
        limits=limits,
    )


def default_class() -> str:
    """Machines of one system, processor and number of cores are of one class."""
    found = environment()
    return f"{sys.platform} {found['machine']}, {found['cpu']['model']}, {cores()} cores"[:200]


def default_name() -> str:
    """A name that says nothing of who owns the machine."""
    return f"{sys.platform}-{environment()['machine']}".lower()


def default_memory() -> int:
    """Bytes that a measuring process may have."""
    return int(_MEMORY_SHARE * environment()["ram_bytes"])


def _info(runtime: Runtime) -> RuntimeInfo:
    versions = runtime.versions()
    # The first package is the one that runs exported folders.
    installed = runtime.packages[0] in versions and runtime.backend is not None
    return RuntimeInfo(
        name=runtime.name, runs=installed and runtime.executes_here(), versions=versions
    )
