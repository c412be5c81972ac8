"""The split is a pure function of content, and frozen: trained teachers relied on it."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.data.records import Record
from edgekd.data.split import group_of, holdout
from edgekd.recipe import SplitSection


def digest(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


def sides(split: SplitSection, groups: int = 400, per_group: int = 10) -> list[tuple[int, str]]:
    pairs = [(g, digest((g, i))) for g in range(groups) for i in range(per_group)]
    return [(g, holdout(f"group {g}", image_hash, split)) for g, image_hash in pairs]


def test_the_shipped_teachers_split_stays():
    samples = {
        ("red apple", digest(0)): "train",
        ("kissing cat", digest(0)): "group",
        ("kissing cat", digest(1)): "group",
    }
    default = SplitSection()
    assert {pair: holdout(*pair, default) for pair in samples} == samples
    whole = hashlib.sha256(repr(sides(default)).encode()).hexdigest()
    assert whole == "9a38444139f53e862de8d335b34df84298fe024a0923686fa7c25090e188c3bd"


def test_fractions_and_whole_groups():
    split = SplitSection(group_fraction=0.2, image_fraction=0.1)
    found = sides(split)
    by_group: dict[int, set[str]] = {}
    for group, side in found:
        by_group.setdefault(group, set()).add(side)
    held = [group for group, kinds in by_group.items() if "group" in kinds]
    assert all(by_group[group] == {"group"} for group in held)
    assert len(held) / len(by_group) == pytest.approx(0.2, abs=0.06)
    others = [side for _, side in found if side != "group"]
    assert others.count("image") / len(others) == pytest.approx(0.1, abs=0.02)


@settings(deadline=None)
@given(st.text(), st.text(), st.integers(0, 10), st.floats(0, 0.5), st.floats(0.01, 0.4))
def test_raising_a_fraction_only_adds_to_validation(group, image, seed, low, more):
    image_hash = digest(image)
    before = SplitSection(group_fraction=low, image_fraction=0.1, seed=seed)
    after = SplitSection(group_fraction=low + more, image_fraction=0.1, seed=seed)
    if holdout(group, image_hash, before) == "group":
        assert holdout(group, image_hash, after) == "group"
    if holdout(group, image_hash, after) == "train":
        assert holdout(group, image_hash, before) == "train"


def test_seeds_differ():
    assert sides(SplitSection(seed=0)) != sides(SplitSection(seed=1))


@pytest.mark.parametrize(
    ("fields", "group_key", "wanted"),
    [
        ({"label": "cat"}, "label", "cat"),
        ({"label": ""}, "label", "a cat"),
        ({}, "label", "a cat"),
        ({"label": "cat"}, None, "a cat"),
    ],
)
def test_group_is_the_field_or_the_caption(fields, group_key, wanted):
    record = Record(b"", "a cat", "x", fields)
    assert group_of(record, SplitSection(group_key=group_key)) == wanted


def test_the_starters_own_field_groups_unless_the_recipe_names_one():
    fields = {"label": "cat", "style": "3d"}
    record = Record(b"", "a cat", "x", fields, group_key="label")
    assert group_of(record, SplitSection()) == "cat"
    assert group_of(record, SplitSection(group_key="style")) == "3d"
