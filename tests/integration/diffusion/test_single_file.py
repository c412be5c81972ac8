"""Pipeline -> original layout -> import -> the same pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.checkpoints import SIZE, make_pipeline, save_checkpoint, to_checkpoint

from edgekd.diffusion.load import load_pipeline
from edgekd.diffusion.single_file.importer import ImportChoices, import_once
from edgekd.diffusion.validate import inspect_teacher

FAMILIES = ["sd1", "sd2", "sdxl"]


def draw(pipeline: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    return pipeline(
        "A red apple, 3d", num_inference_steps=3, generator=generator, output_type="np"
    ).images


def with_other_weights(pipeline: Any) -> Any:
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            weight.mul_(0.5)
    return pipeline


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    return {family: make_pipeline(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def files(pipelines, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        family: save_checkpoint(to_checkpoint(pipeline, family), folder / f"{family}.safetensors")
        for family, pipeline in pipelines.items()
    }


CHOICES = ImportChoices("epsilon", SIZE)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_pictures(family, pipelines, files, tmp_path):
    facts = import_once(files[family], tmp_path / "teacher", CHOICES)
    assert dataclasses.astuple(facts) == (family, "epsilon", "as asked for", SIZE, False, ())
    info = inspect_teacher(tmp_path / "teacher")
    assert (info.family, info.prediction_type, info.resolution) == (family, "epsilon", SIZE)
    imported, own = load_pipeline(tmp_path / "teacher"), pipelines[family]
    np.testing.assert_array_equal(draw(imported), draw(own))
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(one, part).state_dict() for one in (imported, own))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
