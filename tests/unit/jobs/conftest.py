from collections.abc import Callable
from typing import Any

import pytest
import yaml

from edgekd.jobs.plan import Plan, make_plan
from edgekd.recipe import load_recipe
from edgekd.resources import data_root
from edgekd.target import load_target


@pytest.fixture
def planned(tiny_teacher, tmp_path) -> Callable[..., Plan]:
    """A plan of the default recipe with some fields set."""

    def make(*assignments: str, target: str = "onnx") -> Any:
        path = data_root() / "configs" / "starter.yaml"
        recipe = load_recipe(path, [f"teacher.path={tiny_teacher}", *assignments])
        return make_plan(recipe, load_target(target), tmp_path / "run")

    return make


@pytest.fixture
def tables(tmp_path) -> Callable[..., str]:
    """The assignment that names quality tables, written with some rows changed."""

    def write(**changed: Any) -> str:
        values = {
            "measured": "phones", "steps": {1: 0.5, 50: 1}, "decoder_width": {0.25: 0.9, 1: 1},
            "precision": {"fp32": 1, "int8": 1}, "slope": 1, "capacity": 0, **changed,
        }  # fmt: skip
        (tmp_path / "tables.yaml").write_text(yaml.safe_dump(values))
        return f"search.quality_tables={tmp_path / 'tables.yaml'}"

    return write
