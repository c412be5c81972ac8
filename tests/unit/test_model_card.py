from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from edgekd import __version__
from edgekd.benchmark.generation import stated_generation
from edgekd.file_record import damage, finish, read_record
from edgekd.model_card import (
    CARD_FILE,
    Card,
    CardFigure,
    MeasuredModel,
    add_figures,
    find_licence,
    licence_fields,
    model_name,
    write_card,
)

CARD = Card(
    name="starter-student",
    base_model="owner/teacher",
    text="How it was made.\n\n## How to use it\n\nSo.",
    licence={"license": "apache-2.0"},
    datasets=("emoji",),
    tags=("distillation",),
    parameters={"num_inference_steps": 4, "guidance_scale": 1.0},
    made={"recipe": "r" * 64, "teacher": "t" * 64},
)
FIGURES = (
    CardFigure("fd", "FD-efficientnet_lite0-r128-n64", 41.0625, "", "student torch fp32"),
    CardFigure("latency_ms", "Latency", 12.3456789, "ms", "student torch fp32"),
    CardFigure("parameters", "Parameters", 7609524.0, "", "student torch fp32"),
)
MEASURED = MeasuredModel("emoji", "d" * 64, 64, FIGURES)


def load(folder: Path) -> ModelCard:
    return ModelCard.load(folder / CARD_FILE)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "LCMScheduler"}')
    write_card(tmp_path, CARD)
    finish(tmp_path, "key")
    return tmp_path


def test_the_hub_reads_what_a_card_says(folder):
    data = load(folder).data
    assert (data.base_model, data.license, data.datasets) == (
        "owner/teacher",
        "apache-2.0",
        ["emoji"],
    )
    assert (data.library_name, data.pipeline_tag) == ("diffusers", "text-to-image")
    assert data.tags == ["edgekd", "distillation"]
    assert data.eval_results is None
    assert data.edgekd == {"version": __version__, "recipe": "r" * 64, "teacher": "t" * 64}
    assert model_name(folder) == "starter-student"


def test_edgekd_reads_how_to_draw_with_and_without_figures(folder):
    before = stated_generation(folder)
    assert (before.sampler, before.steps, before.guidance_scale) == ("LCMScheduler", 4, 1.0)
    add_figures(folder, MEASURED)
    assert stated_generation(folder) == before


def test_figures_are_the_hubs_eval_results(folder):
    add_figures(folder, MEASURED)
    data = load(folder).data
    assert data.model_name == "starter-student" == model_name(folder)
    first, second, count = data.eval_results
    assert (first.task_type, first.dataset_type) == ("text-to-image", "emoji")
    assert first.dataset_revision == "d" * 64
    assert (first.metric_type, first.metric_name, first.metric_value) == (
        "fd",
        "FD-efficientnet_lite0-r128-n64",
        41.0625,
    )
    assert first.metric_args == {"row": "student torch fp32", "recipe": "r" * 64}
    assert second.metric_value == 12.3457
    assert (count.metric_value, type(count.metric_value)) == (7609524, int)
    text = load(folder).text
    assert text.count("| Latency | 12.3457 ms |") == 1
    assert "How it was made." in text


def test_new_figures_take_the_place_of_old_ones_and_equal_ones_write_nothing(folder):
    add_figures(folder, MEASURED)
    whole = (folder / CARD_FILE).read_text()
    written = (folder / CARD_FILE).stat().st_mtime_ns
    add_figures(folder, MEASURED)
    assert (folder / CARD_FILE).stat().st_mtime_ns == written
    add_figures(folder, MeasuredModel("emoji", "d" * 64, 64, FIGURES[1:]))
    assert len(load(folder).data.eval_results) == 2
    assert "FD-" not in (folder / CARD_FILE).read_text()
    add_figures(folder, MEASURED)
    assert (folder / CARD_FILE).read_text() == whole


def test_a_finished_folder_stays_whole(folder):
    add_figures(folder, MEASURED)
    record = read_record(folder)
    assert (record["key"], damage(folder, record)) == ("key", "")


def test_a_card_without_parameters_leaves_the_drawing_open(tmp_path):
    write_card(tmp_path, Card("name", "base", "text"))
    assert stated_generation(tmp_path) is None
    assert "license" not in (tmp_path / CARD_FILE).read_text()


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\n"}, "apache-2.0"),
        ({"README.md": "# Model\n", "LICENSE": "text"}, "see LICENSE of the source"),
        ({"README.md": "---\n[\n---\n"}, None),
        ({}, None),
    ],
)
def test_licence_comes_from_card_or_file(tmp_path, files, licence):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert find_licence(tmp_path) == licence


def test_a_licence_that_stands_in_a_file_is_another_one(tmp_path):
    (tmp_path / "LICENSE.md").write_text("text")
    assert licence_fields(tmp_path) == {
        "license": "other",
        "license_name": "as-the-base-model",
        "license_link": "LICENSE.md",
    }
    (tmp_path / CARD_FILE).write_text("---\nlicense: mit\nlicense_link: [1]\n---\n")
    assert licence_fields(tmp_path) == {"license": "mit"}


def test_models_of_the_hubs_cache_have_their_names():
    cached = Path("/x/models--stabilityai--stable-diffusion-2-1/snapshots/0123")
    assert model_name(cached) == "stabilityai/stable-diffusion-2-1"
    assert model_name(Path("/x/mine")) == "mine"
