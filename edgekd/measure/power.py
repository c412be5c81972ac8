"""Energy by the machine's own counters: RAPL of x86 processors, a laptop's battery.

RAPL (Intel SDM volume 3B, 16.10; Linux `powercap`): `energy_uj` of each package counts microjoules
and starts anew after `max_energy_range_uj`; its memory has a zone of its own, `dram`. A battery
tells its power only, which is multiplied by time. Both count whatever runs beside, and what an idle
machine takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgekd.measure.sysfs import SYS, number, text

_ZONES = "class/powercap"
_SUPPLIES = "class/power_supply"
_MICRO = 1e-6


class Meter(Protocol):
    """Measures energy."""

    @property
    def source(self) -> str:
        """What counts."""

    def start(self) -> Callable[[], float | None]:
        """Begin; the call gives the joules since then, None where the counter went away."""


@dataclass(frozen=True)
class FoundMeter:
    """The machine's meter, or why there is none.

    Attributes:
        source: the counter, or `not available: <why>`.
    """

    meter: Meter | None
    source: str


def find_meter(sys: Path = SYS) -> FoundMeter:
    """RAPL where it may be read, else a battery that is being emptied.

    Args:
        sys: where sysfs is mounted.
    """
    zones = _rapl_zones(sys / _ZONES)
    readable = [zone for zone in zones if number(zone / "energy_uj") is not None]
    if readable:
        rapl = Rapl(tuple(readable))
        return FoundMeter(rapl, rapl.source)
    batteries = [one for one in (sys / _SUPPLIES).glob("*") if text(one / "type") == "Battery"]
    for folder in sorted(batteries):
        battery = Battery(folder)
        if text(folder / "status") == "Discharging" and battery.watts() is not None:
            return FoundMeter(battery, battery.source)
    return FoundMeter(None, f"not available: {_why(sys, zones, batteries)}")


def _why(sys: Path, zones: list[Path], batteries: list[Path]) -> str:
    if zones:
        return f"{zones[0] / 'energy_uj'} may not be read by this user"
    if batteries:
        return "no RAPL counter, and the battery is not being emptied"
    return f"no RAPL counter in {sys / _ZONES}, and no battery"


@dataclass(frozen=True)
class Rapl:
    """See `Meter`. `zones`: folders of packages and of their memory."""

    zones: tuple[Path, ...]

    @property
    def source(self) -> str:
        names = ", ".join(text(zone / "name") or zone.name for zone in self.zones)
        return f"RAPL ({names}): the whole machine's processors, idle power included"

    def start(self) -> Callable[[], float | None]:
        before = [number(zone / "energy_uj") for zone in self.zones]
        return lambda: self._since(before)

    def _since(self, before: list[int | None]) -> float | None:
        total = 0
        for zone, first in zip(self.zones, before, strict=True):
            last = number(zone / "energy_uj")
            if first is None or last is None:
                return None
            grown = last - first
            if grown < 0:  # it began anew
                grown += number(zone / "max_energy_range_uj") or 0
            total += grown
        return total * _MICRO


@dataclass(frozen=True)
class Battery:
    """See `Meter`."""

    folder: Path

    @property
    def source(self) -> str:
        return f"battery {self.folder.name}: power of the whole device times time"

    def watts(self) -> float | None:
        """What it gives now."""
        power = number(self.folder / "power_now")
        if power is not None:
            return power * _MICRO
        current = number(self.folder / "current_now")
        voltage = number(self.folder / "voltage_now")
        return None if current is None or voltage is None else current * voltage * _MICRO**2

    def start(self) -> Callable[[], float | None]:
        first, started = self.watts(), time.monotonic()

        def joules() -> float | None:
            seconds, last = time.monotonic() - started, self.watts()
            return None if first is None or last is None else (first + last) / 2 * seconds

        return joules


def _rapl_zones(root: Path) -> list[Path]:
    """Each package and its memory. `psys`, the whole board, would count packages twice."""
    packages = [
        zone
        for zone in sorted(root.glob("intel-rapl:*"))
        if zone.name.count(":") == 1 and (text(zone / "name") or "").startswith("package")
    ]
    memory = [
        zone
        for package in packages
        for zone in sorted(root.glob(f"{package.name}:*"))
        if text(zone / "name") == "dram"
    ]
    return packages + memory
