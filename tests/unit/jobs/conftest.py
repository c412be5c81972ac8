from collections.abc import Callable
from typing import Any

import pytest

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
