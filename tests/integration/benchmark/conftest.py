"""Captioned images that the rows of a benchmark draw and are held against."""

import numpy as np
import pytest
from PIL import Image

from edgekd.artifacts import PreparedData
from edgekd.data.prepare import prepare
from edgekd.progress import Silent
from edgekd.recipe import DataSection, FilterSection, SplitSection


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> PreparedData:
    source = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index in range(30):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{index}.png")
        (source / f"{index}.txt").write_text(f"thing {index} <b>")
    section = DataSection(
        sources=[str(source)],
        resolution=32,
        workers=1,
        filters=FilterSection(duplicate_distance=-1),
        split=SplitSection(group_fraction=0.3, image_fraction=0.4),
    )
    return prepare(section, tmp_path_factory.mktemp("prepared") / "data", Silent())
