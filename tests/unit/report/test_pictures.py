import base64
import io

import numpy as np
from PIL import Image

from edgekd.report.pictures import Gallery, data_uri, sheet


def test_a_picture_survives_its_data_uri():
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    kind, _, payload = data_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(payload))))
    assert np.array_equal(back, image)


def test_large_pictures_are_reduced():
    payload = data_uri(np.zeros((1024, 1024, 3), np.uint8)).partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(payload))).size == (256, 256)


def test_a_sheet_without_rows_is_empty():
    """Of a run with prompts of its own that was stopped before its first row."""
    assert sheet(Gallery(["a"], [], {})).height < 64


def test_the_sheet_holds_every_picture_in_its_place():
    rows = {
        name: [np.full((8, 8, 3), value + column, np.uint8) for column in range(3)]
        for name, value in (("teacher", 10), ("studént", 20))
    }
    pixels = np.asarray(sheet(Gallery(["a", "b", "c"], ["image"] * 3, rows)))
    for value in (10, 11, 12, 20, 21, 22):
        assert (pixels == value).all(axis=2).sum() >= 64
