"""Single stages: what they check before the first long one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.benchmark.options import SuiteOptions
from edgekd.benchmark.suite import Variant
from edgekd.diffusion.validate import inspect_folder
from edgekd.errors import InputError
from edgekd.jobs.benchmark import SuiteRequest, benchmark_run, variant_plans
from edgekd.jobs.export import ExportRequest, export_run
from edgekd.jobs.plan import make_plan, with_sized_teacher
from edgekd.jobs.prepare import prepare_run
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.recipe import Recipe, load_recipe
from edgekd.resources import data_root
from edgekd.search.candidate import Candidate
from edgekd.student.resolve import preset
from edgekd.target import load_target


@pytest.fixture
def recipe(tiny_teacher) -> Recipe:
    return load_recipe(data_root() / "configs" / "starter.yaml", [f"teacher.path={tiny_teacher}"])


def test_pictures_have_the_teachers_size_unless_the_recipe_says_another(recipe, tmp_path):
    assert recipe.data.resolution is None
    target = load_target("onnx")
    assert make_plan(recipe, target, tmp_path).recipe.data.side == 32
    data = recipe.data.model_copy(update={"resolution": 64})
    other = recipe.model_copy(update={"data": data})
    plan = make_plan(other, target, tmp_path)
    assert (plan.recipe.data.side, plan.teacher.resolution) == (64, 32)
    assert with_sized_teacher(plan).teacher.resolution == 64


def test_a_u_net_that_no_student_is_cut_from_is_no_teacher(recipe, tiny_teacher, tmp_path):
    """It is exported and drawn with; to prepare its data would be work for nothing."""
    path = Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))
    config = read_json(path / "unet" / "config.json")
    other = {**config, "resnet_time_scale_shift": "scale_shift"}
    diffusers.UNet2DConditionModel.from_config(other).save_pretrained(path / "unet")
    inspect_folder(path)
    section = recipe.teacher.model_copy(update={"path": str(path)})
    recipe = recipe.model_copy(update={"teacher": section})
    with pytest.raises(InputError, match="resnet_time_scale_shift"):
        prepare_run(recipe, tmp_path / "run", Silent())
    with pytest.raises(InputError, match="resnet_time_scale_shift"):
        make_plan(recipe, load_target("onnx"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mount_point_is_refused_before_the_export(tiny_teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(InputError, match="a mount point"):
        export_run(ExportRequest(tiny_teacher, load_target("onnx"), tmp_path), Silent())
    assert list(tmp_path.iterdir()) == []


def run_suite(recipe: Recipe, suite: Path | str, run: Path, **options: Any) -> None:
    asked = SuiteOptions(**options)
    benchmark_run(SuiteRequest(recipe, str(suite), asked, run), Silent())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a model to measure beside the teacher"),
        ({"skip": ["fdd"]}, "metrics to skip must be among"),
        ({"targets": ["onnx:fp8"]}, "precisions of target `onnx` are"),
        ({"targets": ["none"]}, "none"),
        ({"models": ["a=no-such-folder"]}, "no-such-folder"),
        ({"devices": ["phone"]}, "must name known devices"),
        ({"clip": Path("no-such-clip")}, "`--clip` .* must exist"),
    ],
    ids=str,
)
def test_a_wrong_option_ends_the_suite_before_it_begins(recipe, tmp_path, options, message):
    models = {} if not options else {"models": [f"m={recipe.teacher.path}"]}
    with pytest.raises(InputError, match=message):
        run_suite(recipe, "smoke", tmp_path / "run", **{**models, **options})
    assert not (tmp_path / "run").exists()


def test_a_wrong_variant_ends_the_suite_before_it_begins(recipe, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "name: two\nvariants:\n- {name: good}\n"
        "- {name: bad, set: {student.preset: no-such-student}}\n"
    )
    with pytest.raises(InputError, match="no-such-student"):
        run_suite(recipe, suite, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_variant_may_be_a_point_of_a_front(recipe, tmp_path):
    plan = make_plan(recipe, load_target("onnx"), tmp_path)
    arch = preset("bk-sdm-small", read_json(plan.teacher.path / "unet" / "config.json"))
    point = Candidate(arch=arch, decoder_width=0.5, steps=3, precision="int8")
    point_as_read = {**json.loads(point.model_dump_json()), "found": "Found by a search."}
    variants = [
        Variant(name="front", set={"student.candidate": point_as_read}),
        Variant(name="named", set={"student.preset": "bk-sdm-small"}),
    ]
    suite = plan.suite.model_copy(update={"variants": variants})
    made, named = variant_plans(replace(plan, suite=suite, found="another")).values()
    assert (made.found, named.found) == ("Found by a search.", "")
    assert made.arch == arch
    assert made.recipe.distill.few_step.student_steps == 3
    assert made.recipe.distill.decoder.width == 0.5
