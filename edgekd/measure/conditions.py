"""What slows a processor down: its governor, its temperature, throttling. None: not readable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.measure.sysfs import SYS, number, text

_CPUS = "devices/system/cpu"
# As `psutil.sensors_temperatures` names the sensors of processors.
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


@dataclass(frozen=True)
class ProcessorState:
    """Of the processor, at one moment.

    Attributes:
        governor: of its clock, as Linux names it.
        temperature_c: of the warmest sensor, in degrees Celsius.
        throttles: how often its cores were slowed down for their heat since the machine started.
    """

    governor: str | None
    temperature_c: float | None
    throttles: int | None


def conditions(sys: Path = SYS) -> ProcessorState:
    """Read them now.

    Args:
        sys: where sysfs is mounted.
    """
    return ProcessorState(_governor(sys), _temperature(sys), _throttles(sys))


def throttled(before: ProcessorState, after: ProcessorState) -> bool | None:
    """Whether the processor was slowed down for its heat in between; None: not known."""
    if before.throttles is None or after.throttles is None:
        return None
    return after.throttles > before.throttles


def _governor(sys: Path) -> str | None:
    """Of all cores; several are joined."""
    files = (sys / _CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({name for name in map(text, files) if name})) or None


def _temperature(sys: Path) -> float | None:
    """hwmon's sensors of processors, else the thermal zones; millidegrees in both."""
    found = [
        reading
        for chip in (sys / "class/hwmon").glob("hwmon*")
        if text(chip / "name") in _SENSORS
        for reading in chip.glob("temp*_input")
    ] or list((sys / "class/thermal").glob("thermal_zone*/temp"))
    values = [value / 1000 for value in map(number, found) if value is not None]
    return max(values, default=None)


def _throttles(sys: Path) -> int | None:
    files = (sys / _CPUS).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [count for count in map(number, files) if count is not None]
    return sum(counts) if counts else None
