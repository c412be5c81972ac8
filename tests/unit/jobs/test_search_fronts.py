"""Fronts of several classes of devices."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekd.errors import GateError, InputError
from edgekd.jobs.search_fronts import class_folder, find_fronts
from edgekd.progress import Silent

NAMES = ["pi", "pi5", "Pi", "p i", "p-i", "p/i", "Xeon (2 cores), Linux", "../x", "端末", "x" * 200]


def test_every_class_has_a_folder_that_is_safe_on_every_system():
    folders = [class_folder(name) for name in NAMES]
    assert len({one.lower() for one in folders}) == len(NAMES)
    assert folders[:2] == ["class-pi", "class-pi5"]
    for one in folders:
        assert re.fullmatch(r"class(-[a-z0-9]+)+", one)
        assert len(one) < 60


@dataclass(frozen=True)
class Search:
    name: str
    folder: Path = Path("search")


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ({"a": GateError("it must be fast", "slow")}, GateError),
        ({"a": GateError("x", "y"), "b": InputError("it must answer", "silence")}, InputError),
    ],
)
def test_a_class_without_a_front_is_said_when_all_were_tried(errors, kind):
    tried = []

    def find(search):
        tried.append((search.name, str(search.folder)))
        if search.name in errors:
            raise errors[search.name]

    searches = {name: Search(name) for name in ("a", "b", "c")}
    with pytest.raises(kind) as found:
        find_fronts(searches, find, Silent())
    assert type(found.value) is kind
    assert tried == [(name, f"search/class-{name}") for name in ("a", "b", "c")]
    for name, error in errors.items():
        assert f"none for `{name}`: {error}" in str(found.value)
    assert "kept in" in str(found.value)
    assert str(found.value).endswith("search/class-c.")
