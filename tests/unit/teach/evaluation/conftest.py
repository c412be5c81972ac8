"""Small pictures of labels and styles, with both kinds of held-out images."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from edgekd.benchmark.cache import Cache
from edgekd.recipe import load_yaml
from edgekd.teach.data import Corpus, load_corpus
from edgekd.teach.recipe import TeachRecipe

COLORS = ("crimson", "navy", "gold", "teal", "black", "orchid", "sienna", "lime")
COLORS += ("coral", "indigo", "khaki", "olive", "salmon", "tan", "cyan", "plum")
SHAPES = ("disc", "box", "bar")
STYLES = ("solid", "outline")
TINY = Path(__file__).parents[3] / "tiny-teacher.yaml"


def picture(color: str, shape: str, style: str) -> bytes:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    box = (5, 12, 27, 20) if shape == "bar" else (6, 6, 26, 26)
    shown: dict[str, Any] = {"fill": color} if style == "solid" else {"outline": color, "width": 2}
    (pen.ellipse if shape == "disc" else pen.rectangle)(box, **shown)
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.parquet"
    rows = [
        {
            "image": {"bytes": picture(color, shape, style), "path": None},
            "caption": f"{color} {shape}, {style} style",
            "label": f"{color} {shape}",
            "style": style,
        }
        for color in COLORS
        for shape in SHAPES
        for style in STYLES
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def shapes_recipe(shapes: Path, **evaluate: Any) -> TeachRecipe:
    """A recipe of these pictures for a teacher that draws 32x32."""
    values = load_yaml(TINY)
    values["data"] = {
        "sources": [str(shapes)],
        "resolution": 32,
        "split": {"group_fraction": 0.25, "image_fraction": 0.25},
    }
    values["evaluate"] = {
        "samples": 24,
        "heldout_samples": 16,
        "labels": 12,
        "sweep_samples": 16,
        "guidance_scales": [1.0, 3.0],
        "kid_subset_size": 8,
        "kid_subsets": 4,
        "batch_size": 16,
        **evaluate,
    }
    return TeachRecipe.model_validate(values)


@pytest.fixture(scope="session")
def make_recipe(shapes: Path) -> Callable[..., TeachRecipe]:
    """Takes fields of `evaluate`."""
    return functools.partial(shapes_recipe, shapes)


@pytest.fixture(scope="session")
def recipe(make_recipe: Callable[..., TeachRecipe]) -> TeachRecipe:
    return make_recipe()


@pytest.fixture(scope="session")
def corpus(recipe: TeachRecipe) -> Corpus:
    return load_corpus(recipe.data)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))
