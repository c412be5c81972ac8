"""The ablation of a teacher's recipe, on the tiny recipe."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.errors import InputError
from edgekd.progress import Silent
from edgekd.resources import find_yaml
from edgekd.teach.data import load_corpus
from edgekd.teach.evaluation.ablation import common_losses, part_keys, run_ablation
from edgekd.teach.evaluation.ablation_suite import (
    TeachAblation,
    TeachVariant,
    base_recipe,
    load_ablation,
    variant_recipe,
)
from edgekd.teach.start import find_start
from edgekd.training.log import read_rows

SUITE = {
    "name": "tiny",
    "guidance_scale": 2.0,
    "set": {
        "unet.train.phases": [{"steps": 8, "batch_size": 4}],
        "unet.train.log_every": 4,
        # Enough for some of their timesteps to have weights below 1.
        "unet.train.validation_samples": 40,
    },
    "variants": [
        {"name": "base"},
        {"name": "no-min-snr", "batch_size": 8, "set": {"unet.min_snr_gamma": None}},
        {"name": "dropout-05", "set": {"data.captions.dropout": 0.5}},
    ],
}
NAMES = ["base", "no-min-snr", "dropout-05"]


def write(path: Path, values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_shipped_suite_fits_the_starter_recipe():
    suite = load_ablation(find_yaml("benchmarks", "teacher-ablation"))
    base = base_recipe(suite, find_yaml("configs", "starter-teacher"), [])
    recipes = {v.name: variant_recipe(base, v) for v in suite.variants}
    assert recipes["base"] == base
    assert recipes["no-min-snr"].unet.min_snr_gamma is None
    assert recipes["no-tags"].data.captions.with_tags == 0
    images = {
        name: sum(p.steps * p.batch_size for p in recipe.unet.train.phases)
        for name, recipe in recipes.items()
    }
    assert len(set(images.values())) == 1
    assert recipes["batch-64"].unet.train.warmup_steps * 4 == base.unet.train.warmup_steps
    keys = {name: part_keys(recipe) for name, recipe in recipes.items()}
    assert len({parts["vae/model"] for parts in keys.values()}) == 1
    same_text = [name for name in keys if keys[name]["text/model"] == keys["base"]["text/model"]]
    changed = {"text-from-scratch", "no-tags", "dropout-005", "dropout-020"}
    assert set(same_text) == set(keys) - changed


def test_the_suite_for_a_half_trained_teacher_fits_too():
    suite = load_ablation(find_yaml("benchmarks", "teacher-continued"))
    base = base_recipe(suite, find_yaml("configs", "starter-teacher"), [])
    recipes = {v.name: variant_recipe(base, v) for v in suite.variants}
    assert recipes.pop("base") == base
    assert base.start_from == "starter"
    assert all(recipe != base for recipe in recipes.values())
    images = {
        sum(p.steps * p.batch_size for p in recipe.unet.train.phases)
        for recipe in [base, *recipes.values()]
    }
    assert len(images) == 1
    # All go on from one autoencoder, one set of latents and, but for other captions, one encoder.
    assert len({part_keys(recipe)["cache/latents"] for recipe in recipes.values()}) == 1
    for recipe in recipes.values():
        find_start(recipe)


BAD = {
    "another autoencoder": ({"name": "v", "set": {"vae.l1_weight": 2}}, "may only set"),
    "other images": ({"name": "v", "set": {"data.resolution": 32}}, "may only set"),
    "bad name": ({"name": "../v"}, "pattern"),
}


@pytest.mark.parametrize(("variant", "message"), BAD.values(), ids=BAD)
def test_bad_variants(variant, message, tmp_path):
    values = {**SUITE, "variants": [variant]}
    with pytest.raises(InputError, match=message):
        load_ablation(write(tmp_path / "suite.yaml", values))


def test_bad_suites(tmp_path, recipe):
    values = {**SUITE, "variants": [{"name": "a"}, {"name": "a"}]}
    with pytest.raises(InputError, match="`a` twice"):
        load_ablation(write(tmp_path / "suite.yaml", values))
    with pytest.raises(InputError, match="120 and 7"):
        variant_recipe(recipe, TeachVariant(name="v", batch_size=7))
    with pytest.raises(InputError, match="unknown key"):
        variant_recipe(recipe, TeachVariant(name="v", set={"unet.nothing": 1}))


@pytest.fixture(scope="module")
def recipe_path(make_recipe, tmp_path_factory) -> Path:
    recipe = make_recipe(guidance_scales=[2.0], samples=16).model_dump(mode="json")
    return write(tmp_path_factory.mktemp("recipe") / "recipe.yaml", recipe)


@pytest.fixture(scope="module")
def out(recipe_path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    suite = write(folder / "suite.yaml", SUITE)
    run_ablation(suite, recipe_path, [], folder / "out", Silent())
    return folder / "out"


def test_every_variant_has_a_row(out):
    result = json.loads((out / "ablation.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == NAMES
    assert {row["images"] for row in rows.values()} == {32}
    assert (rows["base"]["steps"], rows["no-min-snr"]["steps"]) == (8, 4)
    for row in rows.values():
        assert row["validation_loss"] > 0
        assert row["known"]["prompts"] == 16
        assert row["new_style"]["prompts"] == 16
        assert list(row["label_gain"]) == ["600", "800", "900"]
    # Other losses and batches give other weights, the same seed and data none.
    assert len({row["validation_loss"] for row in rows.values()}) == 3
    table = (out / "ablation.md").read_text()
    assert all(f"| {name} |" in table for name in rows)


def test_finished_stages_are_shared(out):
    trained = {
        name: [
            stage
            for stage in ("vae", "text", "unet")
            if read_rows(out / "variants" / name / stage / "metrics.jsonl")
        ]
        for name in NAMES
    }
    assert trained == {
        "base": ["vae", "text", "unet"],
        "no-min-snr": ["unet"],
        "dropout-05": ["text", "unet"],
    }


def test_second_run_trains_nothing(out, recipe_path, monkeypatch):
    from edgekd.teach import run as teach

    def refuse(*arguments):
        raise AssertionError("it trained again")

    before = (out / "ablation.json").read_text()
    monkeypatch.setattr(teach, "run_task", refuse)
    run_ablation(out.parent / "suite.yaml", recipe_path, [], out, Silent())
    assert (out / "ablation.json").read_text() == before


def test_a_folder_of_other_settings_is_refused(out, recipe_path):
    before = {path: path.read_bytes() for path in out.rglob("*.json*")}
    with pytest.raises(InputError, match=r"asked for, but got other `seed` in .*base"):
        run_ablation(out.parent / "suite.yaml", recipe_path, ["seed=1"], out, Silent())
    changed = ["unet.train.learning_rate=0.5"]
    with pytest.raises(InputError, match="other `unet` in"):
        run_ablation(out.parent / "suite.yaml", recipe_path, changed, out, Silent())
    assert {path: path.read_bytes() for path in before} == before


def test_the_loss_of_all_is_the_base_recipes(out, recipe_path):
    suite = TeachAblation.model_validate(SUITE)
    base = base_recipe(suite, recipe_path, [])
    corpus = load_corpus(base.data)
    rows = json.loads((out / "ablation.json").read_text())["rows"]
    losses = common_losses(base, corpus, out / "variants" / "no-min-snr" / "teacher")
    assert losses.validation["validation_loss"] == rows[1]["validation_loss"]
    # What that run logged is its own loss, which weights noise levels differently.
    logged = read_rows(out / "variants" / "no-min-snr" / "unet" / "metrics.jsonl")
    own = [row["validation_loss"] for row in logged if "validation_loss" in row][-1]
    assert own > 1.05 * losses.validation["validation_loss"]
    base_log = read_rows(out / "variants" / "base" / "unet" / "metrics.jsonl")
    own = [row["validation_loss"] for row in base_log if "validation_loss" in row][-1]
    # Half precision of the stored weights.
    assert own == pytest.approx(rows[0]["validation_loss"], rel=0.02)
