import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

import edgekd
from edgekd.benchmark.suite import (
    Suite,
    Variant,
    is_recipe_field,
    json_schema,
    load_any_suite,
    load_suite,
)
from edgekd.errors import InputError
from edgekd.jobs.forecast import distill_macs, few_step_macs
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.resources import data_root, find_yaml
from edgekd.schema import load_yaml, override
from edgekd.student.cost import unet_cost
from edgekd.student.resolve import full, resolve_arch

TEACHER_SUITES = set((data_root() / "benchmarks").glob("teacher-*.yaml"))


def write(tmp_path: Path, values: Any) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


# The suites of another verb, `edgekd teach ablation`, have another schema.
SUITES = sorted(set((data_root() / "benchmarks").glob("*.yaml")) - TEACHER_SUITES)


@pytest.mark.parametrize("path", SUITES, ids=str)
def test_shipped_suites_load_and_are_named_as_their_file(path):
    assert load_any_suite(path).name == path.stem


def test_starter_measures_all_and_trains_nothing():
    suite = load_suite(find_yaml("benchmarks", "starter"))
    assert suite.speed is not None
    assert suite.memory
    assert suite.variants == []


def test_kd_vs_scratch_changes_losses_first_weights_and_rate_only():
    suite = load_suite(find_yaml("benchmarks", "kd-vs-scratch"))
    recipe = {"name": "r", "distill": {"steps": 7, "losses": {"task": 0.1, "output": 1.0}}}
    made = {
        variant.name: Recipe.model_validate(override(recipe, variant.assignments)).distill
        for variant in suite.variants
    }
    kinds = {"kd": "teacher", "task-only": "teacher", "scratch": "random"}
    assert set(made) == {f"{kind}-{seed}" for kind in kinds for seed in range(3)}
    changed = {"losses", "initialise", "learning_rate", "seed"}
    for seed in range(3):
        asked = [f"distill.seed={seed}", "distill.phases=[kd]"]
        own = Recipe.model_validate(override(recipe, asked)).distill
        assert made[f"kd-{seed}"] == own
        for kind in ("task-only", "scratch"):
            section = made[f"{kind}-{seed}"]
            assert section.model_dump(exclude=changed) == own.model_dump(exclude=changed)
            assert (section.seed, section.initialise) == (seed, kinds[kind])
            losses = section.losses
            assert (losses.task, losses.output, losses.feature) == (1.0, 0.0, 0.0)


def test_each_variant_of_the_ablation_changes_one_thing():
    recipe = load_yaml(data_root() / "configs" / "starter.yaml")
    made = {
        variant.name: Recipe.model_validate(override(recipe, variant.assignments)).distill
        for variant in load_suite(find_yaml("benchmarks", "ablation")).variants
    }
    assert len({section.model_dump_json(exclude={"losses"}) for section in made.values()}) == 1
    losses = {name: section.losses for name, section in made.items()}
    assert losses["feature"] == Recipe.model_validate(recipe).distill.losses
    *chain, _ = itertools.pairwise(losses)
    changed = {
        name: {field for field, value in losses[name] if value != getattr(losses[before], field)}
        for before, name in [*chain, ("feature", "lift")]
    }
    assert changed == {
        "output": {"task", "output"},
        "feature": {"feature"},
        "attention": {"self_attention", "cross_attention"},
        "temperature": {"attention_temperature"},
        # Its weights are shares.
        "balance": {"balance", "self_attention", "cross_attention"},
        "activation": {"activation_map"},
        "hints": {"hints_until"},
        "lift": {"output", "output_lift"},
    }


def test_few_step_students_train_for_equally_long(starter_teacher):
    """In passes of the teacher's U-Net, from the first of KD to the last of their method."""
    suite = load_suite(find_yaml("benchmarks", "few-step"))
    recipe = load_yaml(data_root() / "configs" / "starter.yaml")
    config = read_json(starter_teacher / "unet" / "config.json")
    size = (config["sample_size"],) * 2
    whole = unet_cost(full(config), config, size, text_tokens=77).macs
    passes = {}
    for variant in suite.variants:
        made = Recipe.model_validate(override(recipe, variant.assignments))
        arch = resolve_arch(made.student, config)
        share = unet_cost(arch, config, size, text_tokens=77).macs / whole
        passes[variant.name] = few_step_macs(made.distill, 1.0, share)
        if arch != full(config):
            passes[variant.name] += distill_macs(made.distill, 1.0, share)
    kinds = ["trajectory", "consistency", "distribution", "bk-base", "bk-small", "bk-tiny"]
    kinds += [f"{blocks}-{method}" for blocks in kinds[3:] for method in kinds[1:3]]
    assert set(passes) == {f"{kind}-{steps}" for kind in kinds for steps in (1, 2, 4, 8)}
    # With validation.
    assert all(26_500 < count < 28_000 for count in passes.values()), passes


BAD = {
    "not yaml": ("name: [", "must be YAML"),
    "not a mapping": (["starter"], "must hold a mapping"),
    "no name": ({}, "`name`"),
    "unknown key": ({"name": "s", "sampels": 3}, "unknown key `sampels`"),
    "unknown nested key": ({"name": "s", "speed": {"runs": 3}}, "unknown key `speed.runs`"),
    "wrong type": ({"name": "s", "quality": {"samples": "many"}}, "quality.samples"),
    "one sample": ({"name": "s", "quality": {"samples": 1}}, "greater than or equal to 2"),
    "subset too large": (
        {"name": "s", "quality": {"samples": 8, "kid_subset_size": 9}},
        "`kid_subset_size <= samples` must hold",
    ),
    "a prompt twice": ({"name": "s", "quality": {"prompts": ["a", "a"]}}, "`prompts` must differ"),
    "an empty prompt": ({"name": "s", "quality": {"prompts": ["a", " "]}}, "quality.prompts.1"),
    "unknown sampler": (
        {"name": "s", "generation": {"scheduler": "LMSDiscreteScheduler"}},
        "generation.scheduler",
    ),
    "too many pictures": (
        {"name": "s", "quality": {"samples": 4, "kid_subset_size": 2}, "pictures": 5},
        "`pictures <= quality.samples` must hold",
    ),
    "variant twice": (
        {"name": "s", "variants": [{"name": "kd"}, {"name": "kd"}]},
        "names of variants and models must differ",
    ),
    "a model of a variant's name": (
        {"name": "s", "variants": [{"name": "kd"}], "models": {"kd": "x"}},
        "names of variants and models must differ",
    ),
    "a model of the teacher's name": ({"name": "s", "models": {"teacher": "x"}}, "`teacher` twice"),
    "a model's name leaves its folder": ({"name": "s", "models": {"../x": "x"}}, "models"),
    "another device": ({"name": "s", "devices": ["10.0.0.7"]}, "devices.0"),
    "variant sets no recipe field": (
        {"name": "s", "variants": [{"name": "kd", "set": {"distill.losses.outptu": 0}}]},
        "`distill.losses.outptu` must be a recipe field",
    ),
    "variant sets the teacher": (
        {"name": "s", "variants": [{"name": "kd", "set": {"teacher.path": "x"}}]},
        "may only set fields of `distill` and `student`",
    ),
    "variant name leaves its folder": (
        {"name": "s", "variants": [{"name": "../kd"}]},
        "variants.0.name",
    ),
}


@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD.keys())
def test_bad_suites_are_one_clear_line(tmp_path, values, message):
    with pytest.raises(InputError) as error:
        load_suite(write(tmp_path, values))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_published_schema_is_that_of_the_code():
    published = Path(edgekd.__file__).parents[1] / "docs" / "suite.schema.json"
    assert published.read_text(encoding="utf-8") == json_schema(), (
        "run `python -m edgekd.benchmark.suite > docs/suite.schema.json`"
    )


def test_recipe_fields_are_found_at_any_depth():
    assert is_recipe_field("distill.losses.min_snr_gamma")
    assert is_recipe_field("student.arch.width")  # free-form mapping
    assert not is_recipe_field("distill.steps.more")
    assert not is_recipe_field("distil")


def test_speed_can_be_turned_off():
    assert Suite(name="s", speed=None).speed is None


def test_assignments_keep_types_through_yaml():
    variant = Variant(
        name="v", set={"distill.losses.min_snr_gamma": None, "distill.lr_schedule": "constant"}
    )
    values = override({}, variant.assignments)
    assert values["distill"] == {"losses": {"min_snr_gamma": None}, "lr_schedule": "constant"}
