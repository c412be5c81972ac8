"""`edgekd devices add` and `remove`: which devices a listing names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgekd.devices.connect import first_answer
from edgekd.devices.link import LostDeviceError
from edgekd.devices.listing import (
    LISTING_FILE,
    Entry,
    add_entry,
    check_name,
    check_new,
    find_listing,
    remove_entry,
    user_listing,
)
from edgekd.devices.schema import AgentAddress, Description
from edgekd.errors import InputError
from edgekd.jobs.devices import runs_line
from edgekd.schema import YAML_FAULTS, validate


@dataclass(frozen=True)
class Added:
    """A device that was put into a listing.

    Attributes:
        found: what it said of itself; None: it was not asked.
    """

    name: str
    path: Path
    found: Description | None


def add_device(line: str, name: str | None, file: Path | None, offline: bool = False) -> Added:
    """Put the line that an agent printed into a listing, if that agent answers.

    Args:
        line: `NAME: {address: …, fingerprint: …, token: …}`, or what is behind the colon.
        name: in place of the line's own.
        file: None: the user's own listing.
        offline: it is not asked.

    Raises:
        InputError: the line, its fields, a name that is there already, or a device that cannot be
            used: see `edgekd.devices.connect.first_answer`. Nothing is written then.
    """
    own, values = _parsed(line)
    chosen: Any = name or own  # a name in quotes, or whatever YAML makes of it
    if chosen is None:
        raise InputError("the line must begin with a name, or one be given", "none", "Pass --name.")
    check_name(chosen)
    address = validate(AgentAddress, values, "the line of an agent", quote=False)
    path, fields = _own_file(file), address.model_dump(exclude_none=True)
    entry = check_new(path, chosen, fields)
    found = None if offline else _answer_of(chosen, entry)
    add_entry(path, chosen, fields)
    return Added(chosen, path, found)


def _own_file(file: Path | None) -> Path:
    """The file to write: one that later commands read.

    Raises:
        InputError: another one would be read here.
    """
    if file is None and Path(LISTING_FILE).is_file():
        raise InputError(
            f"the file must be named where the working folder has a {LISTING_FILE}, for commands "
            f"here read that one and not `{user_listing()}`",
            "no --devices-file",
            f"Pass `--devices-file {LISTING_FILE}`; the token is written into it.",
        )
    return file or user_listing()


def _answer_of(name: str, entry: Entry) -> Description:
    try:
        return first_answer(name, entry)
    except LostDeviceError as error:
        fix = f"{error.fix} With --offline it is added all the same."
        raise InputError(error.rule, error.found, fix) from None


def added_line(one: Added) -> str:
    """For people."""
    added = f"`{one.name}` was added to {one.path}"
    if one.found is None:
        return f"{added}, unasked: `edgekd devices` says whether it answers"
    runs = runs_line(one.found.runs)
    return f"{added}: it answers, and {runs}; `edgekd devices check {one.name}` tries its clock"


def remove_device(name: str, file: Path | None) -> Path:
    """Take a device out of the listing that names it; returns the listing's file.

    Raises:
        InputError: there is none of this name, or the file cannot be read or written.
    """
    return remove_entry(find_listing(file), name)


def _parsed(line: str) -> tuple[object, dict[str, Any]]:
    """The name, as YAML reads it, and what is behind it; all that the agent printed may be there.

    Messages quote nothing: there is a token in it.
    """
    rule = "the line must be the one that `edgekd agent` prints at its start"
    lines = [one for one in line.splitlines() if re.search(r"\{.*address.*\}", one)]
    try:
        values = yaml.safe_load(lines[0] if len(lines) == 1 else line)
    except YAML_FAULTS:
        raise InputError(rule, "no YAML") from None
    if not isinstance(values, dict) or not values:
        raise InputError(rule, "another text")
    inner = next(iter(values.values()))
    if len(values) == 1 and isinstance(inner, dict):
        return next(iter(values)), inner
    return None, values
