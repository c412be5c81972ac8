"""`devices.yaml`: the devices that a host knows, by name.

    devices:
      pi:
        address: https://192.168.1.20:8471
        token_file: ~/.config/edgekd/pi.token
        fingerprint: "sha256:1f8e…"
        class: pi-5

It is looked for in the working folder, then in `~/.config/edgekd`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, StringConstraints, field_validator, model_validator

from edgekd.devices.schema import checked_address, checked_fingerprint
from edgekd.errors import InputError
from edgekd.files import atomic_file, making
from edgekd.reading import read_text
from edgekd.schema import Section, load_yaml, validate

LOCAL = "local"  # this machine
LISTING_FILE = "devices.yaml"
_NAME = r"^[a-z0-9][a-z0-9_-]{0,31}$"
DeviceName = Annotated[str, StringConstraints(pattern=_NAME)]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Entry(Section):
    """An agent, and how to reach it. At most one of the tokens is given."""

    address: str = Field(..., description="`https://HOST:PORT`, or `http://HOST:PORT`")
    token: str | None = Field(None, min_length=1, description="that requests must bear")
    token_env: str | None = Field(None, min_length=1, description="variable that holds the token")
    token_file: Path | None = Field(None, description="file that holds the token")
    fingerprint: str | None = Field(
        None, description="SHA-256 of the agent's certificate; null: one of a known authority"
    )
    device_class: str | None = Field(
        None,
        alias="class",
        min_length=1,
        max_length=200,
        description="devices of one class share the work of a search; null: as the agent says",
    )

    _address = field_validator("address")(checked_address)

    @field_validator("fingerprint")
    @classmethod
    def _digits(cls, value: str | None) -> str | None:
        found = checked_fingerprint(value)
        return found and found.removeprefix("sha256:")

    @model_validator(mode="after")
    def _fits(self) -> Entry:
        given = [
            name for name in ("token", "token_env", "token_file") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"only one token must be given, but got {' and '.join(given)}")
        if self.fingerprint is not None and not self.encrypted:
            raise ValueError("`fingerprint` needs an https address, but got http")
        return self

    @property
    def encrypted(self) -> bool:
        return self.address.startswith("https:")

    @property
    def is_loopback(self) -> bool:
        return urlsplit(self.address).hostname in _LOOPBACK

    def bearer(self, name: str) -> str | None:
        """The token; None: the agent asks for none.

        Raises:
            InputError: the variable or the file is not there, or empty.
        """
        if self.token_env is not None:
            found, where = os.environ.get(self.token_env, ""), f"variable {self.token_env}"
        elif self.token_file is not None:
            path = self.token_file.expanduser()
            found, where = read_text(path), f"file `{path}`"
        elif self.token is not None:
            found, where = self.token, "its line"
        else:
            return None
        if not re.fullmatch(r"[!-~]+", found.strip()):
            rule = f"the token of device `{name}` must be one word, in {where}"
            raise InputError(rule, "nothing" if not found.strip() else "something else")
        return found.strip()


def check_name(name: object) -> None:
    """Whether a key of `devices.yaml` can name a device.

    Raises:
        InputError: it cannot.
    """
    rule = (
        "the name of a device must be 1 to 32 of a-z, 0-9, `_` and `-`, the first a letter or digit"
    )
    if not isinstance(name, str):
        fix = "YAML reads off, on, yes, no and numbers as values: put the name in quotes."
        raise InputError(rule, repr(name), fix)
    if not re.fullmatch(_NAME, name):
        raise InputError(rule, repr(name[:64]))
    if name == LOCAL:
        raise InputError(f"`{LOCAL}` must not name an agent: it is this machine", repr(name))


class _File(Section):
    """All of `devices.yaml`."""

    devices: dict[str, Entry] | None = Field(None, description="null: none yet")

    @field_validator("devices", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        for name in value if isinstance(value, dict) else ():
            check_name(name)
        return value


@dataclass(frozen=True)
class Listing:
    """Devices by name.

    Attributes:
        path: of their file; None: there is none.
    """

    devices: Mapping[str, Entry] = field(default_factory=dict)
    path: Path | None = None

    def entry(self, name: str) -> Entry:
        """The agent of a name.

        Raises:
            InputError: there is none.
        """
        if name not in self.devices:
            known = ", ".join([LOCAL, *self.devices])
            where = f"in `{self.path}`" if self.path else f"no {LISTING_FILE} was found"
            raise InputError(
                f"a command must name known devices ({known}; {where})",
                repr(name),
                "`edgekd devices add LINE` adds one: its agent prints the line.",
            )
        return self.devices[name]


def user_listing() -> Path:
    """The file of a user's own devices."""
    root = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(root).expanduser() / "edgekd" / LISTING_FILE


def find_listing(given: Path | None) -> Listing:
    """The devices of a file: the given one, else that of the working folder, else the user's own;
    none, where no file is there.

    Raises:
        InputError: the given file is not there, or a file that does not follow the schema.
    """
    places = [given] if given is not None else [Path(LISTING_FILE), user_listing()]
    for path in places:
        if given is not None or path.is_file():
            return read_listing(path)
    return Listing()


def read_listing(path: Path) -> Listing:
    """The devices of a file.

    Raises:
        InputError: it cannot be read, is not YAML, or does not follow the schema.
    """
    read_text(path)  # a regular file of bounded size
    values = load_yaml(path, quote=False)  # there are tokens in it
    return Listing(validate(_File, values, f"`{path}`", quote=False).devices or {}, path)


def check_new(path: Path, name: object, entry: Mapping[str, str]) -> Entry:
    """An agent that a file can take.

    Raises:
        InputError: a name that is there already, a name or entry against the schema, or a file
            that cannot be read.
    """
    check_name(name)
    found = validate(_File, {"devices": {name: dict(entry)}}, "the device", quote=False)
    if path.exists() and read_text(path).strip() and name in read_listing(path).devices:
        fix = f"Pass --name, or run `edgekd devices remove {name}` first."
        raise InputError(f"the name must be new in `{path}`", repr(name), fix)
    return (found.devices or {})[str(name)]


def add_entry(path: Path, name: str, entry: Mapping[str, str]) -> None:
    """Write an agent into a file.

    Raises:
        InputError: as `check_new`, or a file that cannot be written.
    """
    check_new(path, name, entry)
    with making(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, _with_entry(read_text(path) if path.exists() else "", name, entry))


def remove_entry(listing: Listing, name: str) -> Path:
    """Take an agent out of its file; returns the file.

    Raises:
        InputError: there is none of this name, or the file cannot be written.
    """
    path = listing.path
    if path is None or name not in listing.devices:
        known = ", ".join(listing.devices) or "none"
        where = f"in `{path}`" if path else f"no {LISTING_FILE} was found"
        raise InputError(f"the device must be a known one ({known}; {where})", repr(name))
    _write(path, _without_entry(read_text(path), name))
    return path


def _write(path: Path, text: str) -> None:
    """Only its owner may read it: there are tokens in it. A link stays one."""
    with atomic_file(path.resolve()) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)


def _with_entry(text: str, name: str, entry: Mapping[str, str]) -> str:
    """A file's text with one more device; remarks are kept where its form allows."""
    whole = {**_devices(text), name: dict(entry)}
    written = yaml.safe_dump({name: dict(entry)}, default_flow_style=True, width=10_000)
    head = text if text.strip() else "devices:\n"
    return _checked(f"{head.rstrip()}\n  {written.strip()[1:-1]}\n", whole)


def _without_entry(text: str, name: str) -> str:
    """A file's text with one device less; remarks are kept where its form allows."""
    whole = {key: value for key, value in _devices(text).items() if key != name}
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = next(value for key, value in root.value if key.value == "devices")
    key, last = next(pair for pair in entries.value if pair[0].value == name)
    while isinstance(last, yaml.MappingNode) and not last.flow_style:
        last = last.value[-1][1]  # a mapping's own end is where the next thing begins
    lines = text.splitlines(keepends=True)
    return _checked(
        "".join([*lines[: key.start_mark.line], *lines[last.end_mark.line + 1 :]]), whole
    )


def _devices(text: str) -> dict[str, Any]:
    return (yaml.safe_load(text) or {}).get("devices") or {}


def _checked(text: str, whole: dict[str, Any]) -> str:
    """An edited text, if it says what it should; else one that is written anew."""
    try:
        if text.strip() and _devices(text) == whole:
            return text
    except (yaml.YAMLError, AttributeError):
        pass  # other indentation, several devices in a line, or another key last
    return yaml.safe_dump({"devices": whole}, sort_keys=False)


def parse_names(texts: list[str] | None) -> list[str]:
    """`--devices a,b --devices c` as a list, each name once.

    Raises:
        InputError: an empty name, or one twice.
    """
    names = [name.strip() for text in texts or [] for name in text.split(",")]
    if "" in names:
        raise InputError("`--devices` takes NAME[,NAME]", repr(texts))
    for name in names:
        if names.count(name) > 1:
            raise InputError("`--devices` takes each device once", f"`{name}` twice")
    return names
