"""A whole evaluation of a random teacher, on few pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.processes.pool import Pool
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.run_folder import run_lock
from edgekd.teach.evaluation import card
from edgekd.teach.evaluation.card import (
    images_until,
    main,
    read_evaluation,
    render_card,
    stage_facts,
    training_facts,
    write_card,
)
from edgekd.teach.evaluation.run import evaluate
from edgekd.teach.evaluation.schema import EvaluationResult
from edgekd.teach.recipe import TrainSection

KINDS = ("known", "new_style", "new_label")
SHEETS = ["samples.png", "sweep.png", "lowest.png", "autoencoder_worst.png"]
SHEETS += ["autoencoder_finest.png", *(f"nearest_{kind}.png" for kind in KINDS)]


@pytest.fixture(scope="module")
def out(shallow_teacher, recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(recipe, shallow_teacher, folder, Silent())
    return folder


@pytest.fixture(scope="module")
def result(out) -> dict[str, Any]:
    return dict(read_json(out / "evaluation.json"))


def test_a_tiny_autoencoder_is_refused(tiny_lcm_student, recipe, tmp_path):
    with pytest.raises(InputError, match="must have an AutoencoderKL"):
        evaluate(recipe, tiny_lcm_student, tmp_path / "out", Silent())


def test_every_figure_has_its_floors_and_counts(result):
    for kind, count in zip(KINDS, (24, 16, 16), strict=True):
        chosen = result["sets"][kind]
        assert chosen["prompts"] == chosen["reference"] == count
        assert chosen["metrics"]["fd"].endswith(f"n{count}")
        assert set(chosen["rows"]) == {"generated", "real", "autoencoder"}
        # Random weights draw nothing that is known.
        assert chosen["rows"]["generated"]["fd"] > chosen["rows"]["real"]["fd"]
    assert [row["guidance_scale"] for row in result["guidance"]["rows"]] == [1.0, 3.0]
    assert result["guidance"]["chosen"] in (1.0, 3.0)
    judged = {row["name"]: row["reached"] for row in result["targets"]}
    assert judged["PSNR on new labels in dB"] is False
    assert judged["FD, times that of the autoencoder"] is None
    assert result["settings"]["seed"] == 0
    assert result["teacher"]["parameters"]["unet"] > 0
    assert {"held_out_real", "autoencoder_copies"} <= set(result["copying"]["rows"])


def test_pictures_are_there(out, result):
    for name in SHEETS:
        with Image.open(out / name) as image:
            image.verify()
        assert f"]({name})" in (out / "evaluation.md").read_text(), name
    assert len(result["lowest"]) == 32
    scores = [row["score"] for row in result["lowest"]]
    assert scores == sorted(scores)
    # Eight columns of 32 pixels and gaps of 2.
    with Image.open(out / "samples.png") as image:
        assert image.width == 8 * 34 + 2


def test_second_run_draws_nothing_and_gives_the_same(
    out, result, recipe, shallow_teacher, monkeypatch
):
    def refuse(*arguments):
        raise AssertionError("it drew again")

    monkeypatch.setattr(Pool, "submit", refuse)
    again = evaluate(recipe, shallow_teacher, out, Silent())
    assert again.model_dump(mode="json") == result


def test_the_verb_prints_what_the_file_holds(
    out, result, recipe, shallow_teacher, tmp_path, run_cli
):
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    options = [str(shallow_teacher), "--config", str(config), "--out", str(out), "--json"]
    code, said, _ = run_cli("teach", "evaluate", *options)
    assert code == 0
    assert json.loads(said) == result


def test_a_missing_batch_is_drawn_again_alike(out, result, recipe, shallow_teacher):
    kept = sorted((out / "cache").glob("pictures-*"))
    before = {path: path.read_bytes() for path in kept}
    kept[0].unlink()
    again = evaluate(recipe, shallow_teacher, out, Silent())
    assert again.model_dump(mode="json") == result
    assert {path: path.read_bytes() for path in kept} == before


def test_a_busy_folder_is_refused(out, recipe, shallow_teacher):
    with run_lock(out), pytest.raises(InputError, match="one process"):
        evaluate(recipe, shallow_teacher, out, Silent())


def test_another_resolution_is_refused(recipe, starter_teacher, tmp_path):
    with pytest.raises(InputError, match=r"`data.resolution`.*64 and 32"):
        evaluate(recipe, starter_teacher, tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["evaluate", "nowhere"], "local diffusers folder"),
        (["evaluate", "starter", "--processes", "2"], "No such option"),
        (["assemble", "run", "--set", "seed=1"], "No such option"),
        (["assemble", "no-such-run"], "no folder with recipe.json"),
        (["evaluate", "starter", "--set", "evaluate.samples=1"], "evaluate.samples"),
        (["ablation", "nothing"], "`SUITE` must name"),
    ],
)
def test_bad_usage_ends_in_one_line(options, message, tmp_path, run_cli):
    out = tmp_path / "out"
    code, _, errors = run_cli("teach", *options, "--out", str(out))
    assert code == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not out.exists()


TRAIN = TrainSection.model_validate(
    {
        "phases": [{"steps": 4, "batch_size": 8}, {"steps": 2, "batch_size": 16}],
        "learning_rate": 1e-3,
    }
)


def test_stage_facts_by_hand():
    assert [images_until(step, TRAIN) for step in (0, 3, 4, 6)] == [0, 24, 32, 64]
    rows = [
        {"step": 4, "images_per_s": 8.0},
        {"step": 4, "validation_loss": 2.0},
        {"step": 6, "images_per_s": 4.0},
        {"step": 6, "validation_loss": 1.0},
    ]
    facts = stage_facts(rows, TRAIN)
    assert (facts.steps, facts.images) == (6, 64)
    assert facts.hours == pytest.approx((32 / 8 + 32 / 4) / 3600)
    assert facts.images_per_s == pytest.approx(64 / 12)
    assert facts.validation == {"validation_loss": 1.0}
    with pytest.raises(InputError, match="rows in its metrics"):
        stage_facts([], TRAIN)


@pytest.fixture
def run(recipe, tmp_path) -> Path:
    """What the card reads of a training run."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    for stage in ("vae", "text", "unet"):
        (folder / stage).mkdir()
        row = {"step": getattr(recipe, stage).train.steps, "loss": 1.0, "images_per_s": 10.0}
        (folder / stage / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def test_the_card_follows_the_figures(out, result, run, tmp_path):
    written = write_card(out, run, tmp_path / "card")
    text = written.read_text()
    for name in SHEETS:
        shown = Path(name).with_suffix(".webp")
        assert f"](card/{shown})" in text
        with Image.open(out / name) as drawn, Image.open(written.parent / "card" / shown) as copy:
            mine, theirs = (np.asarray(one.convert("RGB"), float) for one in (copy, drawn))
        if name.startswith(("samples", "lowest", "nearest")):  # lossy: nearer than its mirror image
            assert np.std(mine - theirs) < np.std(mine - theirs[:, ::-1]) / 2
        else:
            np.testing.assert_array_equal(mine, theirs)
    assert str(tmp_path) not in text
    changed = json.loads(json.dumps(result))
    changed["sets"]["known"]["rows"]["generated"]["retrieval"]["r1"] = 0.98765
    other = render_card(EvaluationResult.model_validate(changed), training_facts(run))
    assert "98.8 %" in other
    assert "98.8 %" not in text


def test_a_card_says_where_the_run_started(out, run):
    result = read_evaluation(out / "evaluation.json")
    assert "earlier teacher" not in render_card(result, training_facts(run))
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**recipe, "start_from": "starter"}))
    for stage in ("vae", "text"):
        (run / stage / "metrics.jsonl").unlink()
    (run / "vae" / "model").mkdir()
    finish(run / "vae" / "model", "key", start_key="0123456789abcdef" * 4)
    facts = training_facts(run)
    assert list(facts.stages) == ["unet"]
    assert "earlier teacher of the same recipe (content hash `0123456789abcdef`)" in render_card(
        result, facts
    )


def test_a_card_tells_what_was_tried(out, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(card, "_copy_picture", lambda *_: None)  # it takes its time: see above
    notes = tmp_path / "notes.md"
    arguments = [str(out), str(run), "--out", str(tmp_path / "card"), "--notes", str(notes)]
    assert main(arguments) != 0
    assert "`--notes` must be a text file" in capsys.readouterr().err
    assert not (tmp_path / "card").exists()
    notes.write_text("A larger batch was no better.")
    assert main(arguments) == 0
    text = (tmp_path / "card" / "MODEL_CARD.md").read_text()
    assert "## What was tried\n\nA larger batch was no better.\n\n## Evaluation" in text
    assert "What was tried" not in write_card(out, run, tmp_path / "other").read_text()


def test_a_card_needs_figures_of_this_version(result, tmp_path):
    path = tmp_path / "evaluation.json"
    for changed, said in (({"format": 0}, "format 1"), ({"sets": {}}, "follow its schema")):
        path.write_text(json.dumps({**result, **changed}))
        with pytest.raises(InputError, match=said):
            read_evaluation(path)
