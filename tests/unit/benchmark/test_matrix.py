from dataclasses import replace
from pathlib import Path

from edgekd.recipe import RowGeneration


def test_an_export_is_held_against_the_torch_row_that_draws_as_it_does(make_matrix):
    few = RowGeneration("DDIMScheduler", 3, 4.0)
    matrix = make_matrix("abcd")
    source = Path("student")
    own, other, export, short = (
        replace(case, path=source, source=source) if place < 2 else replace(case, source=source)
        for place, case in enumerate(matrix.cases)
    )
    own, other = replace(own, runtime="torch"), replace(other, runtime="torch", generation=few)
    short = replace(short, generation=few)
    matrix = replace(matrix, cases=(own, other, export, short))
    assert matrix.original(export) == own
    assert matrix.original(short) == other
    assert matrix.original(own) is None
    assert replace(matrix, cases=(own, export, short)).original(short) is None
