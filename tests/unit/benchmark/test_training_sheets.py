from pathlib import Path

import numpy as np
import pytest

from edgekd.benchmark.training_sheets import training_sheet
from edgekd.distill.sampling import Sheet, grid, save_png
from edgekd.report.pictures import TrainingSheet

OWN, OTHER = "student, 2 steps", "student, 1 step"


def leave(folder: Path, step: int, rows: tuple[str, ...] = (OWN,), columns: int = 3) -> None:
    """A sheet whose student's pictures are all of the colour `step`, the teacher's of 250."""
    colours = [250, *[step + number for number in range(len(rows))]]
    pictures = [[np.full((8, 8, 3), colour, np.uint8)] * columns for colour in colours]
    sheet = Sheet(grid(pictures), ("teacher, 25 steps", *rows))
    save_png(sheet, folder / "samples" / f"step-{step:08d}.png")


def seen(folder: Path) -> tuple[TrainingSheet, list[int]]:
    """What a report shows, and the colour of each of its rows."""
    found = training_sheet("few_step", folder / "metrics.jsonl")
    assert found is not None
    height, width, _ = found.picture.shape
    assert (height, width) == (12 * len(found.rows) - 4, 32)
    assert all((found.picture[12 * n + 8 : 12 * n + 12] == 255).all() for n in range(8))
    return found, found.picture[::12, 0, 0].tolist()


def test_rows_of_the_way_are_above_the_last(tmp_path):
    for step in range(10, 90, 10):
        leave(tmp_path, step, (OWN, OTHER) if step == 80 else (OWN,))
    found, colours = seen(tmp_path)
    # The first of eight, after a quarter of the others, after half, and the last.
    assert colours == [250, 10, 20, 40, 80, 81]
    steps = [f"{OWN}, in step {step}" for step in (10, 20, 40, 80)]
    assert list(found.rows) == ["teacher, 25 steps", *steps, OTHER]


@pytest.mark.parametrize("steps", [[9], [8, 9], [7, 8, 9]])
def test_no_sheet_is_shown_twice(tmp_path, steps):
    for step in steps:
        leave(tmp_path, step)
    found, colours = seen(tmp_path)
    assert colours == [250, *steps]
    assert found.rows[-1] == (OWN if len(steps) == 1 else f"{OWN}, in step 9")


def test_what_cannot_be_compared_or_read_is_left_out(tmp_path):
    leave(tmp_path, 1, columns=2)
    (tmp_path / "samples" / "step-00000002.png").write_bytes(b"cut")
    leave(tmp_path, 3, (OTHER,))
    leave(tmp_path, 4, (OWN, OTHER))
    assert seen(tmp_path)[1] == [250, 4, 5]
    (tmp_path / "samples" / "step-00000005.png").write_bytes(b"cut")
    assert training_sheet("few_step", tmp_path / "metrics.jsonl") is None
    assert training_sheet("few_step", tmp_path / "none" / "metrics.jsonl") is None
