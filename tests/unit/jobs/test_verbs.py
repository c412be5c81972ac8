"""Single stages: what they call their students, and what they check before the first long one."""

from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.jobs.benchmark import benchmark_run, student_names
from edgekd.jobs.export import ExportRequest, export_run
from edgekd.jobs.plan import make_plan, with_sized_teacher
from edgekd.progress import Silent
from edgekd.recipe import Recipe, load_recipe
from edgekd.resources import data_root
from edgekd.target import load_target


def test_students_of_one_name_are_called_by_their_paths():
    runs = [Path(f"runs/{name}/distill/student") for name in "ab"]
    assert student_names(runs, []) == [f"student {path}" for path in runs]
    assert student_names([Path("small"), *runs[:1]], []) == ["student small", "student student"]
    assert student_names([Path("runs/kd-0")], ["kd-0"]) == ["student runs/kd-0"]
    assert student_names([Path()], []) == [f"student {Path.cwd().name}"]


def test_one_student_twice_is_refused():
    with pytest.raises(InputError, match=r"must be another folder, but got a/\.\./b twice"):
        student_names([Path("a/../b"), Path("b")], [])


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


def test_a_mount_point_is_refused_before_the_export(tiny_teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(InputError, match="a mount point"):
        export_run(ExportRequest(tiny_teacher, load_target("onnx"), tmp_path), Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_variant_ends_the_suite_before_it_begins(recipe, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "name: two\nvariants:\n- {name: good}\n"
        "- {name: bad, set: {student.preset: no-such-student}}\n"
    )
    with pytest.raises(InputError, match="no-such-student"):
        benchmark_run(recipe, load_target("onnx"), str(suite), [], tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()
