from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.serve.limits import Limits
from edgekd.serve.settings import ServeSettings, is_loopback, parse_bytes, parse_models, token_from

MODELS = {"a": Path("a")}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.example", False),
    ],
)
def test_hosts(host, expected):
    assert is_loopback(host) == expected
    if expected:
        ServeSettings(MODELS, host=host)
    else:
        with pytest.raises(InputError, match="must have a token"):
            ServeSettings(MODELS, host=host)
        ServeSettings(MODELS, host=host, token="long-enough")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": "short"}, "8 to 256"),
        ({"token": "with a space"}, "8 to 256"),
        ({"token": "línea-larga"}, "8 to 256"),
        ({"workers": 0}, "workers >= 1"),
        ({"threads": -1}, "threads >= 0"),
        ({"port": 65536}, "0 <= port < 65536"),
        ({"limits": Limits(queue=0)}, "queue >= 1"),
        ({"limits": Limits(timeout_s=0)}, "0 < timeout"),
        ({"limits": Limits(grace_s=float("nan"))}, "0 < grace"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        ServeSettings(MODELS, **changes)
    assert str(changes.get("token")) not in str(caught.value)


def test_threads_are_divided(monkeypatch):
    monkeypatch.setattr("edgekd.serve.settings._usable_cores", lambda: 8)
    threads = [ServeSettings(MODELS, workers=count).worker_threads for count in (1, 2, 3, 16)]
    assert threads == [0, 4, 2, 1]
    assert ServeSettings(MODELS, workers=2, threads=3).worker_threads == 3


def test_models(tmp_path):
    for name in ("fp32", "a=b"):
        (tmp_path / name).mkdir()
    found = parse_models([str(tmp_path / "fp32"), f"other={tmp_path / 'fp32'}"])
    assert found == {"fp32": tmp_path / "fp32", "other": tmp_path / "fp32"}
    assert list(found) == ["fp32", "other"]
    assert parse_models([f"m={tmp_path / 'a=b'}"]) == {"m": tmp_path / "a=b"}
    for texts in (["fp32", "x/fp32"], [f"é={tmp_path}"], [f"={tmp_path}"], []):
        with pytest.raises(InputError):
            parse_models(texts)
    with pytest.raises(InputError, match="NAME=EXPORT"):
        parse_models([str(tmp_path / "a=b")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2G", 2 << 30), ("1.5m", 3 << 19), ("64KB", 1 << 16), ("1000", 1000)],
)
def test_bytes(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1G", "2T", "G", "1e9"])
def test_no_bytes(text):
    with pytest.raises(InputError, match="amount of memory"):
        parse_bytes(text)


def test_tokens(monkeypatch):
    monkeypatch.delenv("EDGEKD_TOKEN", raising=False)
    assert token_from(None) is None
    monkeypatch.setenv("EDGEKD_TOKEN", "of-the-environment")
    assert token_from(None) == "of-the-environment"
    assert token_from("mine") == "mine"
    monkeypatch.setenv("EDGEKD_TOKEN", "")
    assert token_from(None) is None
