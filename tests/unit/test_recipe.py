from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.model_card import read_header
from edgekd.recipe import Recipe, load_recipe
from edgekd.resources import data_root, find_yaml
from edgekd.schema import load_yaml, override, validate

MINIMAL = {"name": "small", "distill": {"steps": 1}}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# `edgekd teach` has recipes of its own.
SHIPPED = [
    path for path in (data_root() / "configs").glob("*.yaml") if not path.stem.endswith("-teacher")
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    # Whoever has not the teacher can try the recipe nevertheless.
    assert recipe.teacher.path == "starter" or recipe.teacher.arch is not None


def test_the_starters_rate_keeps_the_features_that_a_student_inherits():
    """At 2e-3 with Adam's own 0.999 `feature` rises 80-fold in 20 steps; at 2e-3 with 0.95 it still
    rises; at 1e-3 with 0.999 too little is learnt: docs/losses.md has the curves."""
    section = load_recipe(data_root() / "configs" / "starter.yaml").distill
    assert (section.learning_rate, section.adam_beta2) == (1e-3, 0.95)
    assert section.warmup_steps == 20
    assert section.losses.feature == 0.1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\ndistill: {steps: 1}\ncolour: red\n", "unknown key `colour`"),
        ("name: a\ndistill: {steps: 1, stepz: 2}\n", "unknown key `distill.stepz`"),
        ("name: a\ndistill: {steps: many}\n", "`distill.steps`"),
        ("name: a\ndistill: {steps: 0}\n", "greater than or equal to 1"),
        ("name: a\n", "`distill` is missing"),
        ("name: ../a\ndistill: {steps: 1}\n", "`name`"),
        ("name: a\ndistill: {steps: 1, learning_rate: .nan}\n", "`distill.learning_rate`"),
        ("name: a\ndistill: {steps: 1, learning_rate: -1}\n", "`distill.learning_rate`"),
        (
            "name: a\ndistill: {steps: 1, losses: {task: 0, output: 0, feature: 0}}\n",
            "at least one loss weight",
        ),
        ("name: a\ndistill: {steps: 1, decoder: {width: 0}}\n", "`distill.decoder.width`"),
        ("name: a\ndistill: {steps: 1}\ndata: {resolution: 65}\n", "multiple of 8"),
        ("name: a\ndistill: {steps: 1}\ndata: {sources: []}\n", "`data.sources`"),
        (
            "name: a\ndistill: {steps: 1}\ndata: {split: {group_fraction: 0, image_fraction: 0}}\n",
            "> 0` must hold",
        ),
        (
            "name: a\ndistill: {steps: 1}\nstudent: {preset: x, arch: {}}\n",
            "one student must be given",
        ),
        ("- a\n- b\n", "must hold a mapping"),
        ("name: [\n", "must be YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "must be YAML"),
    ],
)
def test_bad_recipe_is_one_clear_line(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_problem_is_named():
    with pytest.raises(InputError) as caught:
        validate(Recipe, {"name": "a", "distill": {"steps": 0, "seeds": 1}}, "recipe")
    assert "distill.steps" in str(caught.value)
    assert "distill.seeds" in str(caught.value)


def test_override_reads_yaml_and_keeps_its_input():
    values = {"distill": {"steps": 1}}
    result = override(values, ["distill.steps=5", "data.sources=[a, b]", "name=x"])
    assert result == {"distill": {"steps": 5}, "data": {"sources": ["a", "b"]}, "name": "x"}
    assert values == {"distill": {"steps": 1}}


@pytest.mark.parametrize("assignment", ["steps", "=3", "name.x=1", "a=["])
def test_bad_override(assignment):
    with pytest.raises(InputError):
        override({"name": "a"}, [assignment])


def test_unreadable_file(tmp_path):
    with pytest.raises(InputError, match="must exist"):
        load_yaml(tmp_path / "missing.yaml")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="must be a regular file"):
        load_yaml(tmp_path / "endless.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="readable text"):
        load_yaml(path)


@pytest.mark.parametrize(
    "text", ["2024-13-45", "0x_", "[" * 3000, "!!timestamp 1", "!!bool x", "1" * 5000, "!!int a"]
)
def test_values_that_yaml_cannot_make_are_one_line(tmp_path, text):
    """Of a recipe, of `--set`, and of a model card's header, which is passed over then."""
    (tmp_path / "a.yaml").write_text(f"a: {text}")
    with pytest.raises(InputError, match="must be YAML") as caught:
        load_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="must be YAML"):
        override({}, [f"a={text}"])
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\na: {text}\n---\n")
    assert read_header(tmp_path) == {}


def test_find_yaml_lists_what_there_is():
    with pytest.raises(InputError, match="starter"):
        find_yaml("configs", "no-such-recipe")


def test_recipe_is_frozen():
    recipe = validate(Recipe, MINIMAL, "recipe")
    with pytest.raises(Exception, match="frozen"):
        recipe.distill.steps = 3
