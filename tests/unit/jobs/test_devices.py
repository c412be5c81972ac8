"""`edgekd devices`, with agents in memory."""

import pytest
from fixtures.fake_agent import ENVIRONMENT, description
from fixtures.served_agents import ServedAgent, served

from edgekd.devices.connect import DeviceChoice, class_of
from edgekd.devices.listing import Entry, add_entry
from edgekd.devices.schema import Description
from edgekd.devices.trust import ClockDrift, Trust
from edgekd.errors import InputError
from edgekd.jobs import devices
from edgekd.jobs.devices import DeviceLine, check_device, device_lines, trust_lines
from edgekd.progress import Silent


def test_what_a_device_says_of_itself_is_listed_and_what_it_is_not_is_left_out():
    strange = description(environment={**ENVIRONMENT, "cpu": "text", "cores": "many"})
    entry = Entry(address="http://10.0.0.7:1", token="t")
    found = devices._described("pi", Description.model_validate(strange), entry)
    assert (found.cpu, found.cores, found.os) == (None, None, "Linux 6.1")
    assert found.runs == {"onnx": {"onnxruntime": "1.30.0"}}
    assert "clear text" in found.warning
    lines = device_lines([found, DeviceLine(name="away", address="http://b:1", problem="silence")])
    assert lines[0] == "pi    fakes: runs onnx 1.30.0"
    assert "4 threads for models" in lines[1]  # how many cores there are it did not say
    assert lines[-1] == "away  http://b:1  cannot be used: silence"


def test_the_listings_class_comes_before_the_agents():
    own = Description.model_validate(description())
    assert class_of(Entry(address="http://a:1"), own) == "fakes"
    assert class_of(Entry.model_validate({"address": "http://a:1", "class": "x"}), own) == "x"


def test_names_are_looked_up_before_anything_is_asked(tmp_path):
    file = tmp_path / "devices.yaml"
    file.write_text("devices:\n")
    with (
        pytest.raises(InputError, match="must name known devices"),
        DeviceChoice(("pi",), file).open(Silent()),
    ):
        pass
    with pytest.raises(InputError, match="must name known devices"):
        check_device("pi", file, Silent())
    with DeviceChoice(("local",), tmp_path / "none.yaml").open(Silent()) as found:
        assert found == ()


def test_no_device_is_of_this_machines_class(tmp_path):
    agent = ServedAgent(device_class="local")
    file = tmp_path / "devices.yaml"
    with served(agent):
        add_entry(file, "pi", agent.entry)
        with (
            pytest.raises(InputError, match="this machine's alone, but got device `pi`"),
            DeviceChoice(("local", "pi"), file).open(Silent()),
        ):
            pass


def test_a_verdict_is_told_in_words():
    good = Trust(ClockDrift(1e-5, 2e-4), 20.2, 9.5, 0.01, -0.002, (), ("a note",))
    assert trust_lines("pi", good) == [
        "clock    +0.001% ± 0.020% of this machine's",
        "sleep    20.20 ms, asked for 20",
        "work     9.50 ms; the middle 80 % scatter by 1.0%, the last third took -0.2% of the first",
        "note     a note",
        "figures of `pi` can be trusted",
    ]
    bad = Trust(ClockDrift(0, 0), 20.2, 9.5, 0.5, 0.0, ("it is busy",), ())
    assert trust_lines("local", bad)[-2:] == [
        "problem  it is busy",
        "figures of `local` cannot be trusted: if other work runs there, check again when it has "
        "ended",
    ]
