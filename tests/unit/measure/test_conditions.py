from pathlib import Path

import pytest

from edgekd.measure.conditions import ProcessorState, conditions, throttled


def write(root: Path, name: str, value: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(value + "\n")


def test_governor_temperature_and_throttling_are_read(tmp_path):
    cpus = "devices/system/cpu"
    for core, count in enumerate((3, 4)):
        write(tmp_path, f"{cpus}/cpu{core}/cpufreq/scaling_governor", "powersave")
        write(tmp_path, f"{cpus}/cpu{core}/thermal_throttle/core_throttle_count", str(count))
    write(tmp_path, "class/hwmon/hwmon0/name", "coretemp")
    write(tmp_path, "class/hwmon/hwmon0/temp1_input", "61500")
    write(tmp_path, "class/hwmon/hwmon0/temp2_input", "58000")
    write(tmp_path, "class/hwmon/hwmon1/name", "nvme")
    write(tmp_path, "class/hwmon/hwmon1/temp1_input", "80000")
    write(tmp_path, "class/thermal/thermal_zone0/temp", "90000")
    assert conditions(tmp_path) == ProcessorState("powersave", 61.5, 7)


def test_thermal_zones_stand_in_for_sensors(tmp_path):
    write(tmp_path, "class/thermal/thermal_zone0/temp", "42000")
    assert conditions(tmp_path).temperature_c == 42.0


def test_cores_of_different_governors_are_all_named(tmp_path):
    for core, name in enumerate(("schedutil", "performance", "schedutil")):
        write(tmp_path, f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor", name)
    assert conditions(tmp_path).governor == "performance, schedutil"


def test_what_cannot_be_read_is_none(tmp_path):
    assert conditions(tmp_path) == ProcessorState(None, None, None)


@pytest.mark.parametrize(
    ("before", "after", "found"), [(1, 1, False), (1, 2, True), (None, 2, None), (1, None, None)]
)
def test_throttling_in_between(before, after, found):
    assert throttled(ProcessorState(None, None, before), ProcessorState(None, None, after)) is found
