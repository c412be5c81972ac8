import os
from pathlib import Path

import pytest

from edgekd.devices.__main__ import _parser
from edgekd.devices.options import AgentOptions
from edgekd.devices.settings import AgentSettings, Tls, kept_token, make_limits
from edgekd.errors import InputError


def limits(**changes):
    values = {"file_bytes": 1, "store_bytes": 1, "job_s": 1.0, "lease_s": 1.0, "queue": 1}
    return make_limits(**{**values, "memory_bytes": None, "threads": None, **changes})


@pytest.mark.parametrize(
    "wrong",
    [{"queue": 0}, {"threads": 0}, {"job_s": float("nan")}, {"lease_s": float("inf")}],
)
def test_limits_that_no_job_could_keep_are_refused(wrong):
    with pytest.raises(InputError, match="must hold, but got"):
        limits(**wrong)


def test_the_machine_decides_what_is_not_said():
    found = limits()
    assert found.threads >= 1
    assert found.memory_bytes > 1 << 28


@pytest.mark.parametrize(
    "wrong",
    [{"port": 65536}, {"token": "short"}, {"token": "with a space ......"}, {"name": ""},
     {"device_class": "a\nb"}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        AgentSettings(Path(), limits(), **wrong)


@pytest.mark.parametrize(
    ("host", "tls", "encrypted"),
    [
        ("127.0.0.1", Tls(), False),
        ("::1", Tls(), False),
        ("0.0.0.0", Tls(), True),
        ("10.0.0.7", Tls(off=True), False),
        ("127.0.0.1", Tls(certificate=Path("c"), key=Path("k")), True),
    ],
)
def test_other_machines_are_met_over_tls(host, tls, encrypted):
    assert AgentSettings(Path(), limits(), host, tls=tls).encrypted is encrypted


def test_halves_of_a_certificate_are_refused():
    for wrong in ({"certificate": Path("c")}, {"key": Path("k")}):
        with pytest.raises(InputError):
            Tls(**wrong)
    with pytest.raises(InputError):
        Tls(True, Path("c"), Path("k"))


def test_a_token_is_made_once_for_its_user_alone(tmp_path):
    token = kept_token(tmp_path)
    assert len(token) >= 32
    assert kept_token(tmp_path) == token
    if os.name == "posix":
        assert (tmp_path / "token").stat().st_mode & 0o77 == 0
    (tmp_path / "token").write_text("x")
    with pytest.raises(InputError):
        kept_token(tmp_path)


def test_both_command_lines_have_the_same_defaults():
    assert AgentOptions(**vars(_parser().parse_args([]))) == AgentOptions()
    words = ["--class", "pi", "--no-tls", "--threads", "2", "--memory-limit", "1G"]
    expected = AgentOptions(device_class="pi", no_tls=True, threads=2, memory_limit="1G")
    assert AgentOptions(**vars(_parser().parse_args(words))) == expected
