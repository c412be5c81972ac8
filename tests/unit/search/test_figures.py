"""Figures are computed once, survive a kill, and are not trusted when their file was changed."""

import json

import pytest

from edgekd.search.figures import KeptFigures


def never():
    raise AssertionError("this figure was computed before")


def test_a_figure_is_computed_once_and_kept(tmp_path):
    path = tmp_path / "new" / "figures.json"
    kept = KeptFigures(path, "key")
    assert "a" not in kept
    assert kept.get("a", lambda: 0.1) == 0.1
    assert kept.get("a", never) == 0.1
    again = KeptFigures(path, "key")
    assert "a" in again
    assert again.get("a", never) == 0.1


def test_a_kill_costs_the_figure_that_was_being_computed(tmp_path):
    def killed():
        raise KeyboardInterrupt

    kept = KeptFigures(tmp_path / "figures.json", "key")
    kept.get("a", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        kept.get("b", killed)
    again = KeptFigures(tmp_path / "figures.json", "key")
    assert again.get("a", never) == 1
    assert "b" not in again


def test_figures_of_another_key_are_not_taken(tmp_path):
    KeptFigures(tmp_path / "figures.json", "key").get("a", lambda: 1)
    assert "a" not in KeptFigures(tmp_path / "figures.json", "other")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:30],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "figures": {"a": 2.0}}),
        lambda text: json.dumps({**json.loads(text), "figures": {"a": "two"}}),
    ],
)
def test_a_damaged_file_is_made_again(tmp_path, change):
    path = tmp_path / "figures.json"
    KeptFigures(path, "key").get("a", lambda: 1)
    path.write_text(change(path.read_text()))
    kept = KeptFigures(path, "key")
    assert "a" not in kept
    kept.get("a", lambda: 1)
    assert KeptFigures(path, "key").get("a", never) == 1


def test_what_is_no_number_is_refused_and_not_kept(tmp_path):
    kept = KeptFigures(tmp_path / "figures.json", "key")
    with pytest.raises(ValueError, match="`a` must be finite, but got nan"):
        kept.get("a", lambda: float("nan"))
    assert "a" not in kept
