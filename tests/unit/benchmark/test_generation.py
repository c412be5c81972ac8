import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekd.benchmark.generation import (
    recommended_generation,
    row_generation,
    stated_generation,
)
from edgekd.benchmark.suite import GenerationSection
from edgekd.export.protocol import Generation
from edgekd.recipe import RowGeneration

SUITE = GenerationSection(scheduler="EulerDiscreteScheduler", steps=7, guidance_scale=2.0)
OPEN = GenerationSection(steps=7, guidance_scale=2.0)
CARD = "---\nlicense: mit\ninference:\n  parameters:\n    num_inference_steps: 4\n---\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "scheduler").mkdir()
    _schedule(tmp_path, "LCMScheduler")
    return tmp_path


def _schedule(folder: Path, name: str) -> None:
    text = json.dumps({"_class_name": name})
    (folder / "scheduler" / "scheduler_config.json").write_text(text)


def test_a_folder_that_says_nothing_draws_as_the_suite_says(folder):
    assert row_generation(folder, SUITE) == RowGeneration("EulerDiscreteScheduler", 7, 2.0)
    assert recommended_generation(folder) == Generation()


def test_an_export_draws_as_its_manifest_and_scheduler_say(folder):
    values = {"recommended": {"steps": 4, "guidance_scale": 1.5}}
    (folder / "manifest.json").write_text(json.dumps(values))
    assert row_generation(folder, SUITE) == RowGeneration("LCMScheduler", 4, 1.5)


def test_a_student_of_few_steps_says_so_in_its_card(folder):
    (folder / "README.md").write_text(CARD)
    assert row_generation(folder, SUITE) == RowGeneration("LCMScheduler", 4, 1.0)
    assert recommended_generation(folder) == Generation(4, 1.0)


def test_a_sampler_that_no_device_runs_gives_way_to_the_suites(folder):
    (folder / "README.md").write_text(CARD)
    _schedule(folder, "LMSDiscreteScheduler")
    assert row_generation(folder, SUITE) == RowGeneration("EulerDiscreteScheduler", 4, 1.0)
    assert row_generation(folder, OPEN) == RowGeneration("DDIMScheduler", 4, 1.0)


def test_a_suite_that_leaves_the_sampler_open_draws_with_the_folders(folder):
    _schedule(folder, "PNDMScheduler")
    assert row_generation(folder, OPEN) == RowGeneration("PNDMScheduler", 7, 2.0)
    _schedule(folder, "LMSDiscreteScheduler")
    assert row_generation(folder, OPEN) == RowGeneration("DDIMScheduler", 7, 2.0)


def test_suites_take_aliases_and_no_other_names():
    assert GenerationSection(scheduler="unipc").scheduler == "UniPCMultistepScheduler"
    with pytest.raises(ValidationError, match="the sampler must be one of ddim"):
        GenerationSection(scheduler="LMSDiscreteScheduler")


@pytest.mark.parametrize(
    "text", ["", "# no header", "---\ninference: true\n---\n", "---\n[\n---\n", CARD + CARD[:9]]
)
def test_cards_that_say_nothing_of_steps(folder, text):
    (folder / "README.md").write_text(text)
    assert (stated_generation(folder) is None) == ("num_inference" not in text)


@pytest.mark.parametrize("recommended", [None, {}, {"steps": "many", "guidance_scale": 1}])
def test_a_manifest_that_recommends_nothing_usable(folder, recommended):
    (folder / "manifest.json").write_text(json.dumps({"recommended": recommended}))
    assert stated_generation(folder) is None
