"""What apps in other languages rely on."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from edgekd.bundle.manifest import BundleFacts
from edgekd.bundle.model import ModelFacts

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(("name", "model"), [("bundle", BundleFacts), ("model", ModelFacts)])
def test_published_schema_is_that_of_the_model(name: str, model: type[BaseModel]) -> None:
    """If not, write `model.model_json_schema()` there."""
    published = json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert published == model.model_json_schema()
