"""`edgekd devices` and its `check`: which devices there are, what they run, and what their figures
are worth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field

from edgekd.devices.client import RemoteDevice
from edgekd.devices.connect import class_of, first_answer
from edgekd.devices.link import IMPATIENT, Link
from edgekd.devices.listing import LOCAL, Entry, find_listing
from edgekd.devices.local import LocalDevice
from edgekd.devices.orders import CheckJob
from edgekd.devices.reasons import plain
from edgekd.devices.schema import Description
from edgekd.devices.trust import ClockDrift, Trust, clock_drift, judge
from edgekd.errors import EdgekdError
from edgekd.progress import Progress, counted
from edgekd.schema import Section

_TICKS = 5  # readings of a clock at each end: the quickest counts
# Between the two ends: until the drift is known so well, but no longer than this.
_KNOWN_WELL, _MOST_CLOCK_S = 0.003, 30.0


class DeviceLine(Section):
    """What is known of a device.

    Attributes:
        address: null: this machine.
        problem: why it cannot be used; all that only it could say is missing then.
        warning: what is wrong with the way there.
    """

    name: str
    address: str | None = None
    device_class: str | None = None
    edgekd: str | None = None
    cpu: str | None = None
    cores: int | None = None
    ram_bytes: int | None = None
    os: str | None = None
    runs: dict[str, dict[str, str]] = Field({}, description="runtime -> versions of its packages")
    threads: int | None = None
    problem: str | None = None
    warning: str | None = None


def list_devices(file: Path | None) -> list[DeviceLine]:
    """This machine and all of a listing, those out of reach too; all are asked at once.

    Raises:
        InputError: the listing cannot be read.
    """
    listing = find_listing(file)
    here = _described(LOCAL, LocalDevice().describe(), None)
    with ThreadPoolExecutor(max(1, len(listing.devices))) as pool:
        asked = [pool.submit(_asked, name, entry) for name, entry in listing.devices.items()]
        return [here, *(one.result() for one in asked)]


def _asked(name: str, entry: Entry) -> DeviceLine:
    try:
        with Link(name, entry, IMPATIENT) as link:
            return _described(name, RemoteDevice(link).describe(), entry)
    except EdgekdError as error:
        return DeviceLine(
            name=name,
            address=entry.address,
            device_class=entry.device_class,
            problem=str(error),
            warning=_warning(entry),
        )


def _described(name: str, found: Description, entry: Entry | None) -> DeviceLine:
    environment = found.environment
    return DeviceLine(
        name=name,
        address=entry and entry.address,
        device_class=class_of(entry, found) if entry else LOCAL,
        edgekd=found.edgekd,
        cpu=_text(_inner(environment.get("cpu")).get("model")),
        cores=_whole(environment.get("cores")),
        ram_bytes=_whole(environment.get("ram_bytes")),
        os=_text(environment.get("os")),
        runs=found.runs,
        threads=found.limits and found.limits.threads,
        warning=entry and _warning(entry),
    )


def _warning(entry: Entry) -> str | None:
    if entry.encrypted or entry.is_loopback:
        return None
    return "the token and all models go there in clear text: start its agent with TLS"


def _inner(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return plain(value) if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def device_lines(found: Sequence[DeviceLine]) -> list[str]:
    """For people: a line each, and one below for what is wrong."""
    width = max(len(one.name) for one in found)
    lines = []
    for one in found:
        where = one.address or "this machine"
        if one.problem is not None:
            lines.append(f"{one.name:<{width}}  {where}  cannot be used: {one.problem}")
        else:
            given = one.threads if one.threads != one.cores else None
            parts = [
                one.cpu or "unknown processor",
                f"{one.cores} cores",
                counted(given, "thread") + " for models" if given else "",
                *(one.os or "", where),
            ]
            lines.append(f"{one.name:<{width}}  {one.device_class}: {runs_line(one.runs)}")
            lines.append(f"{'':<{width}}  {', '.join(part for part in parts if part)}")
        if one.warning is not None:
            lines.append(f"{'':<{width}}  warning: {one.warning}")
    return lines


def runs_line(runs: Mapping[str, Mapping[str, str]]) -> str:
    """`runs onnx 1.30.0`, with the version of each runtime's first package."""
    named = (" ".join([name, *list(versions.values())[:1]]) for name, versions in runs.items())
    return f"runs {', '.join(named) or 'nothing'}"


def check_device(name: str, file: Path | None, progress: Progress) -> Trust:
    """Measure what a device's figures are worth; `local` too.

    Raises:
        InputError: an unknown device, or one that does not answer.
        GateError: its work did not end.
    """
    job = CheckJob()
    if name == LOCAL:
        progress.info("timing a sleep and a fixed piece of work here")
        return judge(ClockDrift(0.0, 0.0), LocalDevice().check(job), job.sleep_ms)
    entry = find_listing(file).entry(name)
    first_answer(name, entry)
    with Link(name, entry) as link:
        device = RemoteDevice(link, progress)
        device.describe()
        progress.info(f"comparing clocks, and timing a sleep and a fixed piece of work on `{name}`")
        first, until = [device.tick() for _ in range(_TICKS)], time.monotonic() + _MOST_CLOCK_S
        found = device.check(job)
        drift = clock_drift(first, [device.tick() for _ in range(_TICKS)])
        while drift.error > _KNOWN_WELL and time.monotonic() < until:
            time.sleep(1.0)
            drift = clock_drift(first, [device.tick() for _ in range(_TICKS)])
    return judge(drift, found, job.sleep_ms)


def trust_lines(name: str, found: Trust) -> list[str]:
    """For people."""
    clock = f"{found.clock.drift:+.3%} ± {found.clock.error:.3%} of this machine's"
    return [
        f"clock    {'the same' if name == LOCAL else clock}",
        f"sleep    {found.sleep_ms:.2f} ms, asked for {CheckJob().sleep_ms:g}",
        f"work     {found.work_ms:.2f} ms; the middle 80 % scatter by {found.spread:.1%}, the last "
        f"third took {found.slowdown:+.1%} of the first",
        *(f"note     {note}" for note in found.notes),
        *(f"problem  {problem}" for problem in found.problems),
        f"figures of `{name}` {'can' if found.trusted else 'cannot'} be trusted"
        + ("" if found.trusted else ": if other work runs there, check again when it has ended"),
    ]
