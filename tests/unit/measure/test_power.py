"""Energy counters, on trees of files that look like sysfs."""

from pathlib import Path

import pytest

from edgekd.measure import power
from edgekd.measure.power import find_meter


@pytest.fixture
def zone(tmp_path):
    """Writes a RAPL zone; returns its folder."""

    def write(name: str, label: str, microjoules: int, most: int = 1_000_000) -> Path:
        folder = tmp_path / "class/powercap" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{label}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text(f"{most}\n")
        return folder

    return write


def test_packages_and_their_memory_are_summed(zone, tmp_path):
    zone("intel-rapl:0", "package-0", 100_000)
    zone("intel-rapl:1", "package-1", 200_000)
    zone("intel-rapl:0:0", "dram", 0)
    finish = find_meter(tmp_path).meter.start()
    zone("intel-rapl:0", "package-0", 350_000)
    zone("intel-rapl:1", "package-1", 250_000)
    zone("intel-rapl:0:0", "dram", 40_000)
    assert finish() == pytest.approx(0.25 + 0.05 + 0.04)


def test_parts_of_a_package_and_the_whole_board_are_not_counted_twice(zone, tmp_path):
    for name, label in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:1": "psys",
    }.items():
        zone(name, label, 0)
    finish = find_meter(tmp_path).meter.start()
    zone("intel-rapl:0", "package-0", 500_000)
    zone("intel-rapl:0:0", "core", 400_000)
    zone("intel-rapl:1", "psys", 900_000)
    assert finish() == pytest.approx(0.5)


def test_a_counter_that_began_anew_is_carried_over(zone, tmp_path):
    zone("intel-rapl:0", "package-0", 900_000, most=1_000_000)
    finish = find_meter(tmp_path).meter.start()
    zone("intel-rapl:0", "package-0", 150_000)
    assert finish() == pytest.approx(0.25)


def test_a_counter_that_went_away_gives_no_figure(zone, tmp_path):
    folder = zone("intel-rapl:0", "package-0", 1)
    finish = find_meter(tmp_path).meter.start()
    (folder / "energy_uj").unlink()
    assert finish() is None


def test_a_counter_that_may_not_be_read_is_named(zone, tmp_path):
    folder = zone("intel-rapl:0", "package-0", 1)
    (folder / "energy_uj").unlink()  # root reads whatever its mode is
    found = find_meter(tmp_path)
    assert found.meter is None
    assert found.source == f"not available: {folder / 'energy_uj'} may not be read by this user"


def test_without_any_counter_the_report_says_so(tmp_path):
    found = find_meter(tmp_path)
    assert found.meter is None
    assert found.source.startswith("not available: no RAPL counter in ")


def battery(root: Path, **files: str) -> None:
    folder = root / "class/power_supply/BAT0"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(value + "\n")


@pytest.mark.parametrize(
    "gauge",
    [{"power_now": "12000000"}, {"current_now": "1000000", "voltage_now": "12000000"}],
    ids=["power", "current"],
)
def test_a_battery_gives_power_times_time(tmp_path, monkeypatch, gauge):
    battery(tmp_path, type="Battery", status="Discharging", **gauge)
    found = find_meter(tmp_path)
    assert found.source.startswith("battery BAT0")
    seconds = iter([100.0, 100.5])
    monkeypatch.setattr(power.time, "monotonic", lambda: next(seconds))
    assert found.meter.start()() == pytest.approx(6.0)


def test_a_battery_that_is_charged_measures_nothing(tmp_path):
    battery(tmp_path, type="Battery", status="Charging", power_now="12000000")
    found = find_meter(tmp_path)
    assert found.meter is None
    assert "not being emptied" in found.source


def test_rapl_goes_before_a_battery(zone, tmp_path):
    battery(tmp_path, type="Battery", status="Discharging", power_now="1")
    zone("intel-rapl:0", "package-0", 0)
    assert find_meter(tmp_path).source.startswith("RAPL (package-0)")
