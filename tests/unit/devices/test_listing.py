"""`devices.yaml`: what it may hold, where it is found, and how it is written."""

import os
import stat

import pytest

from edgekd.devices.listing import (
    Entry,
    add_entry,
    find_listing,
    parse_names,
    read_listing,
    remove_entry,
    user_listing,
)
from edgekd.errors import InputError

HASH = "ab" * 32
PI = f"""
devices:
  # the one on the shelf
  pi:
    address: https://192.168.1.20:8471/
    token_env: PI_TOKEN
    fingerprint: sha256:{HASH}
    class: pi-5
"""


def listing(tmp_path, text):
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    return read_listing(path)


def test_an_entry_is_read(tmp_path, monkeypatch):
    found = listing(tmp_path, PI).entry("pi")
    assert found.address == "https://192.168.1.20:8471"
    assert (found.fingerprint, found.device_class) == (HASH, "pi-5")
    assert found.encrypted
    assert not found.is_loopback
    monkeypatch.setenv("PI_TOKEN", " secret\n")
    assert found.bearer("pi") == "secret"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pi: {}", "`devices.pi.address` is missing"),
        ("pi: {address: 'ftp://a:1'}", "https://HOST:PORT"),
        ("pi: {address: 'https://a'}", "port"),
        ("pi: {address: 'https://a:99999'}", "port"),
        ("pi: {address: 'https://user@a:1'}", "https://HOST:PORT"),
        ("pi: {address: 'https://a:1/x'}", "https://HOST:PORT"),
        ("pi: {address: 'https://a:1', colour: red}", "unknown key `devices.pi.colour`"),
        ("pi: {address: 'https://a:1', fingerprint: abc}", "64 hexadecimal digits"),
        (f"pi: {{address: 'http://a:1', fingerprint: {HASH}}}", "needs an https address"),
        ("pi: {address: 'https://a:1', token: x, token_env: Y}", "only one token"),
        ("'a b': {address: 'https://a:1'}", "must be 1 to 32 of a-z"),
        ("off: {address: 'https://a:1'}", "False.*put the name in quotes"),
        ("pi: {address: 'a:1', token: [a-secret]}", "must be https://HOST:PORT"),
        ("pi: {address: 'https://a:1', token: *a-secret}", "must be YAML.*from line 2 on"),
        ("pi: [a-secret]", "`devices.pi`"),
        ("local: {address: 'https://a:1'}", "it is this machine"),
        ("pi", "`devices`"),
        ("[", "must be YAML"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as found:
        listing(tmp_path, f"devices:\n  {text}")
    assert "\n" not in str(found.value)
    assert "a-secret" not in str(found.value)


def test_unknown_names_are_told_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"\(local, pi; in .*devices.yaml.*'pie'"):
        listing(tmp_path, PI).entry("pie")


def test_the_working_folder_comes_before_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert find_listing(None).devices == {}
    user_listing().parent.mkdir(parents=True)
    user_listing().write_text("devices: {mine: {address: 'http://localhost:1'}}")
    assert list(find_listing(None).devices) == ["mine"]
    (tmp_path / "devices.yaml").write_text(PI)
    assert list(find_listing(None).devices) == ["pi"]
    assert list(find_listing(user_listing()).devices) == ["mine"]
    with pytest.raises(InputError, match="must exist"):
        find_listing(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "said"), [("", "nothing"), ("a b", "something else"), ("é", "something else")]
)
def test_a_token_that_is_not_there_is_said_but_never_shown(tmp_path, monkeypatch, content, said):
    file = tmp_path / "token"
    file.write_text(content)
    monkeypatch.setenv("PI_TOKEN", content)
    for entry in (
        Entry(address="https://a:1", token_file=file),
        Entry(address="https://a:1", token_env="PI_TOKEN"),
        *([Entry(address="https://a:1", token=content)] if content else []),
    ):
        with pytest.raises(InputError, match=f"the token of device `pi`.*got {said}") as found:
            entry.bearer("pi")
        assert not content or content not in str(found.value)


def test_no_token_is_no_header():
    assert Entry(address="http://localhost:1").bearer("pi") is None


def test_a_new_entry_keeps_the_rest_and_is_the_owners_alone(tmp_path):
    path = tmp_path / "new" / "devices.yaml"
    entry = {"address": "https://a:1", "token": "secret", "fingerprint": f"sha256:{HASH}"}
    add_entry(path, "first", entry)
    path.write_text(path.read_text() + "# a remark")
    add_entry(path, "second", entry)
    assert list(read_listing(path).devices) == ["first", "second"]
    assert "# a remark\n" in path.read_text()
    assert read_listing(path).entry("second").token == "secret"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    before = path.read_text()
    for name, values, said in [
        ("second", entry, "must be new"),
        ("local", entry, "it is this machine"),
        ("A B", entry, "must be 1 to 32 of a-z"),
        ("third", {"address": "a"}, "https://HOST:PORT"),
    ]:
        with pytest.raises(InputError, match=said):
            add_entry(path, name, values)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "devices:\n",
        "devices: {a: {address: 'http://b:1'}}",
        "devices:\n    a: {address: 'http://b:1'}",
    ],
)
def test_any_form_of_a_file_takes_another_device(tmp_path, text):
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    add_entry(path, "pi", {"address": "http://a:1", "token": "x: {y}"})
    found = read_listing(path).devices
    assert list(found) == [*(["a"] if "a:" in text else []), "pi"]
    assert found["pi"].token == "x: {y}"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (PI + "  # of the kitchen\n  b: {address: 'http://b:1'} # b\n",
         "\ndevices:\n  # the one on the shelf\n  # of the kitchen\n"
         "  b: {address: 'http://b:1'} # b\n"),
        ("devices:\n  b: {address: 'http://b:1'}\n  pi: {address: 'http://a:1'}\n# end\n",
         "devices:\n  b: {address: 'http://b:1'}\n# end\n"),
        ("devices:\n  b: {address: 'http://b:1'}\n  pi:\n    address: 'http://a:1'\n\n    class: x",
         "devices:\n  b: {address: 'http://b:1'}\n"),
        ("devices: {pi: {address: 'http://a:1'}, b: {address: 'http://b:1'}}\n",
         "devices:\n  b:\n    address: http://b:1\n"),
        ("devices:\n  pi: &x {address: 'http://b:1'}\n  b: *x\n",
         "devices:\n  b:\n    address: http://b:1\n"),
        ("devices:\n  'pi':\n    address: 'http://a:1'\n", "devices:\n"),
        ("devices: {pi: {address: 'http://a:1'}}", "devices: {}\n"),
    ],
    ids=["remarks", "last", "blank line", "one line", "alias", "alone", "alone in one line"],
)  # fmt: skip
def test_a_device_leaves_any_form_of_a_file_and_the_rest_stays(tmp_path, text, left):
    path = tmp_path / "real.yaml"
    path.write_text(text)
    link = tmp_path / "devices.yaml"
    link.symlink_to(path)
    assert remove_entry(read_listing(link), "pi") == link
    assert path.read_text() == left
    assert link.is_symlink()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    found = read_listing(link)
    assert "pi" not in found.devices
    with pytest.raises(InputError, match=r"must be a known one \(.*; in .*'pi'"):
        remove_entry(found, "pi")
    assert path.read_text() == left


def test_names_come_in_lists_and_repeated():
    assert parse_names(["a,b", "c"]) == ["a", "b", "c"]
    assert parse_names(None) == []
    for wrong, said in [(["a,"], "NAME"), (["a", "a"], "twice")]:
        with pytest.raises(InputError, match=said):
            parse_names(wrong)
