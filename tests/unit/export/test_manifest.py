import json
from pathlib import Path

from edgekd.export.manifest import Manifest

SCHEMA = Path(__file__).parents[3] / "docs" / "manifest.schema.json"


def test_published_schema_is_that_of_the_model():
    """If not, write `Manifest.model_json_schema()` there."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == Manifest.model_json_schema()
