"""From names to devices that answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd.devices.client import RemoteDevice
from edgekd.devices.link import Link, Patience
from edgekd.devices.listing import LOCAL, Entry, Listing, find_listing
from edgekd.devices.protocol import Device
from edgekd.devices.schema import Description
from edgekd.errors import InputError
from edgekd.progress import Progress

# Before work begins: one that is not there is said at once.
_AT_FIRST = Patience(silence_s=5.0, connect_s=5.0, read_s=15.0)


@dataclass(frozen=True)
class Connected:
    """A device that has answered.

    Attributes:
        device_class: of the listing, else as its owner says: devices of one class share work.
    """

    name: str
    device_class: str
    device: Device
    description: Description

    def runs(self, runtime: str) -> bool:
        return runtime in self.description.runs

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Of all runtimes that it runs: a figure of another version is another figure."""
        return self.description.runs


@dataclass(frozen=True)
class DeviceChoice:
    """`--devices` and `--devices-file`; no names: not asked for."""

    names: tuple[str, ...] = ()
    file: Path | None = None

    @property
    def others(self) -> list[str]:
        """All but this machine."""
        return [name for name in self.names if name != LOCAL]

    def open(self, progress: Progress) -> contextlib.AbstractContextManager[tuple[Connected, ...]]:
        """See `connected`."""
        if not self.others:
            return contextlib.nullcontext(())
        return connected(self.others, find_listing(self.file), progress)

    def classes(self, found: Sequence[Connected]) -> dict[str, tuple[Connected, ...]]:
        """The devices by their class, in the order of names; this machine is a class of its own,
        without devices."""
        by_name = {one.name: one for one in found}
        classes: dict[str, tuple[Connected, ...]] = {}
        for name in self.names or (LOCAL,):
            if name == LOCAL:
                classes[LOCAL] = ()
            else:
                own = by_name[name].device_class
                classes[own] = (*classes.get(own, ()), by_name[name])
        return classes


@contextlib.contextmanager
def connected(
    names: Sequence[str], listing: Listing, progress: Progress
) -> Iterator[tuple[Connected, ...]]:
    """The devices of these names, each of which has answered.

    Raises:
        InputError: an unknown name, or a device that does not answer, refuses the token, speaks
            another protocol or calls its class as this machine's is called.
    """
    entries = {name: listing.entry(name) for name in names}
    with contextlib.ExitStack() as stack:
        found = []
        for name, entry in entries.items():
            description = first_answer(name, entry)
            device = RemoteDevice(stack.enter_context(Link(name, entry)), progress)
            own = class_of(entry, description)
            if own == LOCAL:
                raise InputError(
                    f"the class `{LOCAL}` is this machine's alone",
                    f"device `{name}` of it",
                    "Give it another `class` in devices.yaml.",
                )
            found.append(Connected(name, own, device, description))
        yield tuple(found)


def first_answer(name: str, entry: Entry) -> Description:
    """What a device says of itself, asked for a few seconds: it is waited for longer once it has
    answered.

    Raises:
        InputError: see `edgekd.devices.client.RemoteDevice.describe`.
    """
    with Link(name, entry, _AT_FIRST) as link:
        return RemoteDevice(link).describe()


def class_of(entry: Entry, description: Description) -> str:
    return entry.device_class or description.device_class


def check_threads(devices: Sequence[Connected], threads: int, field: str) -> None:
    """Every device lets models run on so many threads.

    Args:
        field: that asks for them, for the message.

    Raises:
        InputError: one does not.
    """
    for one in devices:
        limits = one.description.limits
        if limits is not None and threads > limits.threads:
            most = limits.threads
            rule = f"`{field}` must be at most what device `{one.name}` allows, {most}"
            raise InputError(rule, str(threads))
