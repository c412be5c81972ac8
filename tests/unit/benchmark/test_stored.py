import numpy as np
import pytest

from edgekd.benchmark import stored
from edgekd.benchmark.stored import StoredPictures
from edgekd.errors import InputError
from edgekd.files import write_tensors

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 2, 3, 3), dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path) -> StoredPictures:
    paths = []
    for start in range(0, 7, 3):
        paths.append(tmp_path / f"{start}.safetensors")
        write_tensors(paths[-1], {"images": IMAGES[start : start + 3]})
    return StoredPictures(paths, 3, 7)


def test_pictures_are_those_that_were_written(pictures):
    assert len(pictures) == 7
    np.testing.assert_array_equal(np.stack(list(pictures)), IMAGES)
    np.testing.assert_array_equal(np.concatenate(list(pictures.batches())), IMAGES)
    np.testing.assert_array_equal(pictures[-1], IMAGES[6])
    np.testing.assert_array_equal(np.stack(pictures[2:5]), IMAGES[2:5])
    for outside in (7, -8):
        with pytest.raises(IndexError):
            pictures[outside]


def test_each_file_is_read_once_in_order(pictures, monkeypatch):
    read, asked = stored.read_images, []
    monkeypatch.setattr(stored, "read_images", lambda path: asked.append(path) or read(path))
    assert len(list(pictures)) == 7
    assert asked == pictures.paths


def test_a_file_that_changed_is_named(pictures):
    pictures.paths[1].write_bytes(b"")
    with pytest.raises(InputError, match=r"3\.safetensors"):
        list(pictures)
