import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.export import manifest
from edgekd.libraries import diffusers
from edgekd.runtime import folder as module
from edgekd.runtime.conditions import open_encoders
from edgekd.runtime.folder import Shapes, read_folder


def change(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**found, **values}), encoding="utf-8")


def test_what_a_folder_says(folder):
    found = read_folder(folder)
    assert (found.runtime, found.precision) == ("onnx", "fp32")
    assert (found.steps, found.guidance_scale) == (3, 2.0)
    assert (found.is_sdxl, found.zero_negative, found.guidance_width) == (False, False, None)
    assert found.shapes == Shapes((64, 64), 16, True)
    assert (found.latents.channels, found.latents.scale, found.latents.mean) == (4, 4, None)
    assert found.scheduler.name == "DDIMScheduler"


def test_the_format_is_the_exporters():
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
def test_pipeline_classes(folder, prefix, name, is_sdxl):
    change(folder / "model_index.json", _class_name=prefix + name)
    found = read_folder(folder)
    assert (found.is_sdxl, found.zero_negative) == (is_sdxl, is_sdxl)


def test_xl_latents_with_means(folder):
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


def test_a_tiny_decoder(folder):
    config = dict(diffusers.AutoencoderTiny(decoder_block_out_channels=(8, 8, 8, 8)).config)
    (folder / "vae_decoder" / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if not key.startswith("_")}),
        encoding="utf-8",
    )
    found = read_folder(folder).latents
    assert (found.scale, found.factor) == (8, 1.0)


def test_a_guidance_distilled_unet(folder):
    change(folder / "unet" / "config.json", time_cond_proj_dim=256)
    assert read_folder(folder).guidance_width == 256


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("manifest.json", {"format": 2}, "must be a manifest of format 1, but got 2"),
        ("manifest.json", {"shapes": None}, "`shapes` of .* must be an object, but got None"),
        ("manifest.json", {"shapes": {"native": [64]}}, "must have 2 to 2 entries, but got 1"),
        ("manifest.json", {"shapes": {"native": [64, 10**400]}}, "1 <= width <= 32768"),
        ("manifest.json", {"recommended": {"steps": 3}}, "guidance_scale` .* a number.*none"),
        ("manifest.json", {"recommended": {"steps": 0}}, "1 <= steps <= 32768"),
        ("manifest.json", {"recommended": {"steps": True}}, "`steps` .* must be an integer"),
        (
            "manifest.json",
            {"recommended": {"steps": 3, "guidance_scale": float("nan")}},
            "0 <= guidance_scale",
        ),
        ("manifest.json", {"runtime": ["onnx"]}, "`runtime` of .* must be a text"),
        ("manifest.json", {"tuning": {"chosen": 3}}, "`chosen` of .*tuning` must be an object"),
        ("manifest.json", {"tuning": [3]}, "`tuning` of .* must be an object"),
        ("unet/config.json", {"in_channels": "4"}, "`in_channels` of .* must be an integer"),
        ("unet/config.json", {"time_cond_proj_dim": 0}, "4 <= time_cond_proj_dim"),
        ("vae_decoder/config.json", {"scaling_factor": None}, "`scaling_factor` .* a number"),
        ("vae_decoder/config.json", {"block_out_channels": []}, "must have 1 to 8 entries"),
        ("model_index.json", {"_class_name": 3}, "`_class_name` of .* must be a text"),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "one of Stable.*got FluxPipeline"),
        ("scheduler/scheduler_config.json", {"_class_name": "X"}, "the scheduler must be one of"),
    ],
)
def test_folders_that_are_refused(folder, name, values, message):
    change(folder / name, **values)
    with pytest.raises(InputError, match=message):
        read_folder(folder)


def test_a_folder_around_exports_names_them(tmp_path, folder):
    message = "must be one that `edgekd export` wrote, but got no manifest.json"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{message} in .*empty$"):
        read_folder(tmp_path / "empty")
    around = tmp_path / "around"
    shutil.copytree(folder, around / "student" / "fp32")
    with pytest.raises(InputError, match=r"Did you mean `.*/around/student/fp32`\?$"):
        read_folder(around)


FILES = ["model_index.json", "vae_decoder/config.json"]
FILES += ["unet/config.json", "scheduler/scheduler_config.json"]


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"must exist, but got .*{name}"):
        read_folder(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{}", "[" * 100_000, '{"a":' * 200 + "1" + "}" * 200]
)
def test_other_content_is_one_line(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


def test_xl_folders_need_their_second_tokenizer(folder):
    change(folder / "model_index.json", _class_name="StableDiffusionXLPipeline")
    with pytest.raises(InputError, match="must have `tokenizer_2`, but got none"):
        open_encoders(read_folder(folder), None)
    change(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(InputError, match="must have `tokenizer`, but got none"):
        open_encoders(read_folder(folder), None)


def test_ids_are_those_of_the_text_encoder(folder):
    change(folder / "text_encoder" / "config.json", vocab_size=4000)
    with pytest.raises(InputError, match="0 <= id < 4000"):
        open_encoders(read_folder(folder), None)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="must be a folder"):
        read_folder(tmp_path / "absent")


@pytest.mark.parametrize("given", ["DDIMScheduler", "ddim"])
def test_another_sampler(folder, given):
    path = folder / "scheduler" / "scheduler_config.json"
    change(path, _class_name="PNDMScheduler", skip_prk_steps=True, beta_end=0.0125)
    assert read_folder(folder).scheduler.skip_prk_steps
    found = read_folder(folder, given).scheduler
    assert (found.name, found.beta_end, found.clip_sample) == ("DDIMScheduler", 0.0125, False)
    with pytest.raises(InputError, match="the sampler must be one of"):
        read_folder(folder, "PLMS")
