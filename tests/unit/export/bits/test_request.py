"""Recipes by name: those that ship with targets fit the starter's own pipelines."""

from typing import Any

import pytest
import torch

from edgekd.diffusion.load import load_pipeline
from edgekd.errors import InputError
from edgekd.export.bits.recipe import find_storage, load_quantization, resolve
from edgekd.export.bits.request import recipe_file
from edgekd.export.bits.weights import models
from edgekd.export.registry import get_exporter
from edgekd.recipe import Recipe
from edgekd.resources import data_root, find_yaml
from edgekd.schema import load_yaml, validate
from edgekd.target import load_target

SHIPPED = sorted((data_root() / "export_targets").glob("*/quantization/*.yaml"))


@pytest.fixture(scope="module")
def starters(starter_teacher) -> dict[str, Any]:
    """The teacher, and the student of the default recipe, without weights."""
    from edgekd.libraries import diffusers
    from edgekd.student.config import to_unet_config
    from edgekd.student.resolve import resolve_arch

    teacher = load_pipeline(starter_teacher, only=())
    student = load_pipeline(starter_teacher, only=())
    section = validate(Recipe, load_yaml(find_yaml("configs", "starter")), "recipe").student
    config = dict(teacher.unet.config)
    with torch.device("meta"):
        student.unet = diffusers.UNet2DConditionModel.from_config(
            to_unet_config(resolve_arch(section, config), config)
        )
    return {"starter-teacher": teacher, "starter-student": student}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_shipped_recipe_fits_its_pipeline(path, starters):
    target = load_target(path.parts[-3])
    assert recipe_file(path.stem, target.name) == path
    recipe = load_quantization(path)
    exporter: Any = get_exporter(target.runtime)
    storage = find_storage(recipe, exporter.name, exporter.weight_storages)
    bits = resolve(recipe, models(starters[path.stem]), storage)
    assert len(set(bits["unet"].values())) > 1
    # It came out of a run that measured it, and keeps what it promised there.
    assert recipe.measured.weights_bytes < recipe.measured.uniform_weights_bytes
    assert max(recipe.measured.drop_db, recipe.measured.held_out.drop_db) <= 1.005


def test_targets_ship_recipes():
    assert SHIPPED


def test_file_and_unknown_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("format: 1\n", encoding="utf-8")
    assert recipe_file(str(path), "openvino") == path
    with pytest.raises(
        InputError, match=r"or one of target `openvino` \(starter-student\).*'mine'"
    ):
        recipe_file("mine", "openvino")
    with pytest.raises(InputError, match=r"target `phone` \(none\)"):
        recipe_file("../openvino/quantization/starter-student", "phone")
