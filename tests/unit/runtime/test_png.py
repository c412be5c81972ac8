import io

import numpy as np
import pytest
from PIL import Image

from edgekd.errors import InputError
from edgekd.runtime.png import encode_png, write_png


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 64)])
def test_pillow_reads_the_same_picture(tmp_path, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    write_png(tmp_path / "p.png", picture)
    with Image.open(tmp_path / "p.png") as image:
        image.verify()
    with Image.open(tmp_path / "p.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize(
    "picture",
    [np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8)],
)
def test_no_picture(tmp_path, picture):
    with pytest.raises(InputError, match=r"uint8 \[H,W,3\]"):
        write_png(tmp_path / "p.png", picture)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="must be writable"):
        write_png(tmp_path / "absent" / "p.png", np.zeros((2, 2, 3), np.uint8))


def test_a_picture_that_is_there_already_stays(tmp_path):
    (tmp_path / "p.png").write_text("mine")
    with pytest.raises(InputError, match="must be writable"):
        write_png(tmp_path / "p.png", np.zeros((2, 2, 3), np.uint8))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_texts_are_found_by_pillow():
    texts = {"parameters": '{"seed": 3}', "Comment": "caf\xe9"}
    content = encode_png(np.zeros((2, 3, 3), np.uint8), texts)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info == texts
        image.load()
