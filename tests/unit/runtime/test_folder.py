from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.export import manifest
from edgekd.libraries import diffusers
from edgekd.runtime import folder as module
from edgekd.runtime.folder import Shapes, read_folder


def change(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**found, **values}), encoding="utf-8")


def test_what_a_folder_says(folder: Path) -> None:
    found = read_folder(folder)
    assert (found.runtime, found.precision) == ("onnx", "fp32")
    assert (found.steps, found.guidance_scale) == (3, 2.0)
    assert (found.is_sdxl, found.zero_negative, found.guidance_width) == (False, False, None)
    assert found.shapes == Shapes((64, 64), 16, True)
    assert (found.latents.channels, found.latents.scale, found.latents.mean) == (4, 4, None)
    assert found.scheduler.name == "DDIMScheduler"


def test_the_format_is_the_exporters() -> None:
    assert module.FORMAT == manifest.FORMAT


@pytest.mark.parametrize("prefix", ["", "ORT", "OV"])
@pytest.mark.parametrize(
    ("name", "is_sdxl"),
    [
        ("StableDiffusionPipeline", False),
        ("StableDiffusionXLPipeline", True),
        ("LatentConsistencyModelPipeline", False),
    ],
)
def test_pipeline_classes(folder: Path, prefix: str, name: str, is_sdxl: bool) -> None:
    change(folder / "model_index.json", _class_name=prefix + name)
    found = read_folder(folder)
    assert (found.is_sdxl, found.zero_negative) == (is_sdxl, is_sdxl)


def test_xl_latents_with_means(folder: Path) -> None:
    rows = {"latents_mean": [1, 2, 3, 4], "latents_std": [5, 6, 7, 8]}
    change(folder / "vae_decoder" / "config.json", **rows)
    assert read_folder(folder).latents.mean is None
    change(
        folder / "model_index.json",
        _class_name="StableDiffusionXLPipeline",
        force_zeros_for_empty_prompt=False,
    )
    found = read_folder(folder)
    assert (found.latents.mean, found.latents.std) == ((1, 2, 3, 4), (5, 6, 7, 8))
    assert not found.zero_negative


def test_a_tiny_decoder(folder: Path) -> None:
    config = dict(diffusers.AutoencoderTiny(decoder_block_out_channels=(8, 8, 8, 8)).config)
    (folder / "vae_decoder" / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if not key.startswith("_")}),
        encoding="utf-8",
    )
    found = read_folder(folder).latents
    assert (found.scale, found.factor) == (8, 1.0)


def test_a_guidance_distilled_unet(folder: Path) -> None:
    change(folder / "unet" / "config.json", time_cond_proj_dim=256)
    assert read_folder(folder).guidance_width == 256


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("manifest.json", {"format": 2}, "must be a manifest of format 1, but got 2"),
        ("manifest.json", {"shapes": None}, "must be those of an export"),
        ("manifest.json", {"recommended": {"steps": 3}}, "must be those of an export.*guidance"),
        ("manifest.json", {"tuning": {"chosen": 3}}, "must be those of an export"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "one of Stable.*got FluxPipeline"),
        ("scheduler/scheduler_config.json", {"_class_name": "X"}, "the scheduler must be one of"),
    ],
)
def test_folders_that_are_refused(
    folder: Path, name: str, values: dict[str, Any], message: str
) -> None:
    change(folder / name, **values)
    with pytest.raises(InputError, match=message):
        read_folder(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model_index.json", "vae_decoder/config.json"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}` must be a readable text file"):
        read_folder(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder"):
        read_folder(tmp_path / "absent")


def test_another_sampler_keeps_the_noise_schedule_and_clips_nothing(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    values = json.loads(path.read_text())
    del values["clip_sample"]
    path.write_text(json.dumps({**values, "_class_name": "PNDMScheduler", "skip_prk_steps": True}))
    with pytest.raises(InputError, match="PNDMScheduler"):
        read_folder(folder)
    config = read_folder(folder, "DDIMScheduler").scheduler
    assert (config.name, config.clip_sample) == ("DDIMScheduler", False)
    assert config.beta_start == values["beta_start"]
