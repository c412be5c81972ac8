"""`edgekd devices add` and `remove`, with agents on sockets of this machine."""

import shlex

import httpx
import pytest
from fixtures.fake_agent import LIMITS
from fixtures.served_agents import ServedAgent, served

from edgekd.devices import run
from edgekd.devices.link import IMPATIENT
from edgekd.devices.listing import LISTING_FILE, read_listing
from edgekd.devices.schema import AgentAddress
from edgekd.devices.settings import AgentSettings
from edgekd.errors import InputError
from edgekd.jobs.device_listing import add_device, added_line, remove_device

HASH = "ab" * 32
LINE = (
    f'  pi5: {{address: "https://10.0.0.7:8421", fingerprint: "sha256:{HASH}", token: "{"t" * 9}"}}'
)


def test_the_line_of_an_agent_is_added_under_its_name_or_another(tmp_path):
    file = tmp_path / "devices.yaml"
    added = add_device(LINE, None, file, offline=True)
    assert (added.name, added.path, added.found) == ("pi5", file, None)
    assert added_line(added) == (
        f"`pi5` was added to {file}, unasked: `edgekd devices` says whether it answers"
    )
    assert add_device(LINE, "kitchen", file, offline=True).name == "kitchen"
    bare = LINE.partition(": ")[2]
    assert add_device(bare, "bare", file, offline=True).name == "bare"
    for line, name, said in [
        (LINE, None, "must be new.*edgekd devices remove pi5"),
        (bare, None, "must begin with a name"),
        ("pi: {address: 'https://a:1'}", None, "`token` is missing"),
        ("pi: {address: 'a:1', token: x y}", None, "`address`: .*HOST:PORT; `token`: .*8 to 256"),
        ("off: {address: 'https://a:1/x', token: tttttttt}", None, "put the name in quotes"),
        ("hello", None, "must be the one that `edgekd agent` prints"),
        ("[", None, "must be the one"),
    ]:
        with pytest.raises(InputError, match=said) as found:
            add_device(line, name, file)
        assert "\n" not in str(found.value)
        assert not any(token in str(found.value) for token in ("x y", "ttttttt"))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("pi5", "pi5"),
        ("Ada's Pi 5", "ada-s-pi-5"),
        ("off", "agent-off"),
        ("2026-11-29", "agent-2026-11-29"),
        ("local", "agent-local"),
        ("猫", "agent"),
        ("a" * 40, "a" * 32),
    ],
)
def test_all_that_an_agent_printed_is_taken_for_its_line(tmp_path, capsys, name, label):
    """As a shell hands it over. A slash at the end of an address is none of it."""
    settings = AgentSettings(limits=LIMITS, folder=tmp_path, host="0.0.0.0")
    token = 'it\'s "quoted"\\'.replace(" ", "-")
    run._say(name, AgentAddress(address="http://10.0.0.7:8421/", token=token), settings)
    printed = capsys.readouterr().out
    assert "edgekd devices add" in printed
    (line,) = (line for line in printed.splitlines() if "address" in line)
    for text in (printed, shlex.split(f"'{line}'")[0]):
        file = tmp_path / str(hash(text)) / "devices.yaml"
        assert add_device(text, None, file, offline=True).name == label
        found = read_listing(file).entry(label)
        assert (found.address, found.token) == ("http://10.0.0.7:8421", token)


def line_of(agent: ServedAgent) -> str:
    return f'pi: {{address: "{agent.address}", token: "{agent.token}"}}'


def test_an_agent_that_answers_is_added_with_what_it_runs(tmp_path):
    agent, file = ServedAgent(), tmp_path / "devices.yaml"
    with served(agent):
        added = add_device(line_of(agent), None, file)
    assert agent.asked == ["GET /v1/hello"] * 2
    assert added_line(added) == (
        f"`pi` was added to {file}: it answers, and runs onnx 1.30.0; "
        "`edgekd devices check pi` tries its clock"
    )
    assert list(read_listing(file).devices) == ["pi"]


class OtherServer(ServedAgent):
    """As `edgekd serve`: with a token of its own it refuses all but a probe."""

    def answer(self, request):
        if request.url.path == "/healthz":
            return httpx.Response(200, json={"status": "ok"})
        return super().answer(request)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (ServedAgent(protocols=[7]), "must speak version 1 .*but got one that speaks 7"),
        (ServedAgent(), "the token of device `pi` must be that of its agent"),
        (OtherServer(), "must be an agent of edgekd, but got another server"),
    ],
    ids=["protocol", "token", "server"],
)
def test_what_cannot_be_used_is_said_and_not_added(agent, said, tmp_path):
    file = tmp_path / "devices.yaml"
    with served(agent):
        line = line_of(agent)
        if "token" in said or "server" in said:
            agent.token = "of-somebody-else"
        with pytest.raises(InputError, match=said) as found:
            add_device(line, None, file)
    assert "\n" not in str(found.value)
    assert not file.exists()


def test_an_agent_that_is_not_there_is_added_when_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("edgekd.devices.connect._AT_FIRST", IMPATIENT)
    agent, file = ServedAgent(), tmp_path / "devices.yaml"
    with served(agent):
        line = line_of(agent)
    with pytest.raises(InputError, match=r"must answer at .*With --offline it is added"):
        add_device(line, None, file)
    assert not file.exists()
    add_device(line, None, file, offline=True)
    assert list(read_listing(file).devices) == ["pi"]


def test_a_file_that_commands_here_would_not_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / LISTING_FILE).write_text("devices:\n")
    with pytest.raises(InputError, match=r"Pass `--devices-file devices.yaml`"):
        add_device(LINE, None, None, offline=True)
    monkeypatch.chdir("/")
    assert add_device(LINE, None, None, offline=True).path.is_relative_to(tmp_path / "home")


def test_a_device_leaves_the_file_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"a known one \(none; no devices.yaml was found\)"):
        remove_device("pi5", None)
    file = add_device(LINE, None, None, offline=True).path
    with pytest.raises(InputError, match=r"a known one \(pi5; in .*'pi'"):
        remove_device("pi", None)
    assert remove_device("pi5", None) == file
    assert read_listing(file).devices == {}
