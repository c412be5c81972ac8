"""Devices of several classes: a search, a front and a folder for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.files import hash_value
from edgekd.jobs.search_plan import SearchPlan
from edgekd.progress import Progress
from edgekd.schema import Section
from edgekd.search.result import SearchResult

_MOST_LETTERS = 40  # of a class in the name of its folder


class Fronts(Section):
    """What `edgekd search` prints for devices of several classes: a front for each."""

    fronts: dict[str, SearchResult]
    folders: dict[str, Path]


def find_fronts(
    searches: Mapping[str, SearchPlan],
    find: Callable[[SearchPlan], SearchResult],
    progress: Progress,
) -> Fronts:
    """A front for each class of devices; a class that gets none takes no other's.

    Raises:
        GateError, InputError: a class got none; the others have been tried.
    """
    fronts, folders, failed = dict[str, SearchResult](), dict[str, Path](), dict[str, EdgekdError]()
    for name, whole in searches.items():
        progress.info(f"[{name}]")
        search = replace(whole, folder=whole.folder / class_folder(name))
        try:
            fronts[name], folders[name] = find(search), search.folder
        except (GateError, InputError) as error:
            progress.info(f"  {error}")
            failed[name] = error
    if failed:
        kept = ", ".join(map(str, folders.values()))
        gates = all(isinstance(error, GateError) for error in failed.values())
        raise (GateError if gates else InputError)(
            "every class of devices must get a front",
            "; ".join(f"none for `{name}`: {error}" for name, error in failed.items()),
            f"What was found is kept in {kept}." if kept else "",
        )
    return Fronts(fronts=fronts, folders=folders)


def class_folder(name: str) -> str:
    """The folder of a class's front: the same whichever devices are named with it."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_MOST_LETTERS].strip("-")
    # What was changed could be another class's name as well.
    own = "" if plain == name else hash_value(name)[:6]
    return "-".join(part for part in ("class", plain, own) if part)
