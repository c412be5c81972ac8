"""Measured tables: exact where measured, monotone between, refused outside."""

import math
import re
from pathlib import Path

import pytest

import edgekd
from edgekd.errors import InputError
from edgekd.schema import validate
from edgekd.search.tables import QualityTables, interpolate, read_tables
from edgekd.target import list_targets

VALUES = {
    "measured": "a test",
    "steps": {4: 0.9, 1: 0.5, 2: 0.8},
    "decoder_width": {0.5: 0.9, 1: 1},
    "precision": {"fp32": 1},
    "slope": 1,
    "capacity": 0,
}


def tables(**changes):
    return validate(QualityTables, {**VALUES, **changes}, "the tables")


def test_measurements_are_given_back():
    assert [tables().of_steps(n) for n in (1, 2, 4)] == [0.5, 0.8, 0.9]
    assert [tables().of_decoder(width) for width in (0.5, 1)] == [0.9, 1]
    assert tables().of_precision("fp32") == 1


def test_between_them_it_is_linear_in_the_logarithm_of_steps_and_in_the_width():
    share = math.log(3 / 2) / math.log(4 / 2)
    assert tables().of_steps(3) == pytest.approx(0.8 + share * 0.1)
    assert tables().of_decoder(0.75) == pytest.approx(0.95)


def test_interpolation_never_falls_where_the_points_rise():
    points = {1: 0.2, 2: 0.2, 5: 0.7, 50: 1.0}
    values = [interpolate(points, n, "n", math.log) for n in range(1, 51)]
    assert values == sorted(values)


@pytest.mark.parametrize("steps", [0, 5, 100])
def test_steps_outside_of_the_measurements_are_refused(steps):
    with pytest.raises(InputError, match=r"`search\.steps` must be from 1 to 4, which .* cover"):
        tables().of_steps(steps)


def test_other_widths_and_precisions_are_refused():
    with pytest.raises(
        InputError,
        match=r"`search\.decoder_widths` must be from 0\.5 to 1, which .* cover, but got 0\.25",
    ):
        tables().of_decoder(0.25)
    with pytest.raises(InputError, match=r"the quality tables cover \(fp32\), but got 'int4'"):
        tables().of_precision("int4")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": {1: 0.9, 2: 0.8}}, "more must not keep less, but got 1: 0.9 and 2: 0.8"),
        ({"steps": {}}, "steps"),
        ({"steps": {0: 0.5}}, "greater than or equal to 1"),
        ({"decoder_width": {1: 1.1}}, "less than or equal to 1"),
        ({"precision": {"fp32": 0}}, "greater than 0"),
        ({"slope": 0}, "greater than 0"),
        ({"measured": ""}, "measured"),
    ],
)
def test_tables_that_cannot_be_measurements_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        tables(**changes)


def test_the_example_in_the_docs_is_one(tmp_path):
    page = (Path(edgekd.__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(measured:.*?)```", page, re.DOTALL)
    (tmp_path / "tables.yaml").write_text(example)
    assert read_tables(tmp_path / "tables.yaml").of_precision("palette6") == 0.97


def test_the_shipped_tables_say_where_they_were_measured():
    shipped = read_tables()
    assert "starter" in shipped.measured
    # The teacher's own way of drawing keeps all.
    assert shipped.of_steps(max(shipped.steps)) == 1
    assert shipped.of_decoder(1.0) == shipped.of_precision("fp32") == 1
    assert shipped.of_steps(2) < shipped.of_steps(4)


def test_the_shipped_tables_cover_every_shipped_targets_precisions():
    shipped = read_tables().precision
    assert {name for target in list_targets() for name in target.precisions} <= set(shipped)


def test_precisions_that_round_activations_have_a_row_by_their_score_alone():
    """The other rows are from the damage of rounded weights, which says nothing of them."""
    rounding = {"int8-dynamic", "int8-static", "int8-mixed", "ort-int8", "int8_full", "hybrid"}
    assert rounding & set(read_tables().precision) == {"ort-int8"}
