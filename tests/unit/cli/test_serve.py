from pathlib import Path

import pytest

from edgekd.serve import __main__ as module
from edgekd.serve.limits import Limits
from edgekd.serve.settings import Privacy, ServeSettings

OPTIONS = ["--host", "0.0.0.0", "--port", "9", "--token", "12345678", "--workers", "2"]
OPTIONS += ["--threads", "3", "--queue", "4", "--timeout", "5", "--grace", "6"]
OPTIONS += ["--memory-limit", "7M", "--max-pixels", "8", "--embed-prompt", "--log-prompts"]
EXPECTED = ServeSettings(
    models={"a": Path("/x"), "y": Path("/y")},
    host="0.0.0.0",
    port=9,
    token="12345678",
    workers=2,
    threads=3,
    limits=Limits(4, 5.0, 6.0, 7 << 20, 8),
    privacy=Privacy(embed_prompt=True, log_prompts=True),
)


@pytest.fixture
def started(monkeypatch) -> list[ServeSettings]:
    monkeypatch.delenv("EDGEKD_TOKEN", raising=False)
    found: list[ServeSettings] = []
    monkeypatch.setattr("edgekd.serve.run.run", found.append)
    monkeypatch.setattr(module, "run", found.append)
    return found


def test_both_commands_give_the_same_settings(started, run_cli):
    assert run_cli("serve", "a=/x", "/y", *OPTIONS)[0] == 0
    assert module.main(["a=/x", "/y", *OPTIONS]) == 0
    assert started == [EXPECTED, EXPECTED]


def test_both_commands_have_the_same_defaults(started, run_cli):
    assert run_cli("serve", "/y")[0] == 0
    assert module.main(["/y"]) == 0
    assert started == [ServeSettings({"y": Path("/y")})] * 2


def test_one_line_and_code_two(started, run_cli, capsys):
    code, out, err = run_cli("serve", "/y", "--host", "0.0.0.0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "EDGEKD_TOKEN" in err
    assert module.main(["/y", "--memory-limit", "much"]) == 2
    assert capsys.readouterr().err.startswith("error: an amount of memory must be")
    assert not started
