"""`inspect_components`: what users read, for folders and for published architectures."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgekd.errors import InputError
from edgekd.student.cost import text_encoder_cost, unet_cost, vae_cost
from edgekd.student.inspect import inspect_components
from edgekd.student.resolve import full

SIZE = (16, 16)  # the starter's native latents


@pytest.mark.parametrize(
    ("arch", "unet", "total"),
    [
        ("sd15", 859_520_964, 1_066_235_307),
        ("sd21", 865_910_724, 1_289_952_427),
        ("sdxl", 2_567_463_684, 3_468_837_867),
    ],
)
def test_published_architectures(arch, unet, total):
    found = inspect_components(arch=arch)
    assert found["components"]["unet"]["parameters"] == unet
    assert found["components"]["unet"]["bytes"] == 4 * unet
    assert found["total"]["parameters"] == total
    vae = found["components"]["vae"]
    for key, value in vae.items():
        halves = [found["components"][f"vae_{half}"][key] for half in ("encoder", "decoder")]
        assert value == sum(halves)
    assert ("text_encoder_2" in found["components"]) == (arch == "sdxl")


def test_native_latent_size_decides_the_macs():
    sizes = {
        arch: inspect_components(arch=arch)["latent_size"] for arch in ("sd15", "sd21", "sdxl")
    }
    assert sizes == {"sd15": [64, 64], "sd21": [96, 96], "sdxl": [128, 128]}


def test_a_student_replaces_the_unet_alone():
    teacher = inspect_components(arch="sd15")["components"]
    student = inspect_components(arch="sd15", preset="bk-sdm-tiny")["components"]
    assert student["unet"]["parameters"] == 323_384_964
    assert student["unet"]["macs"] < teacher["unet"]["macs"]
    assert {k: v for k, v in student.items() if k != "unet"} == {
        k: v for k, v in teacher.items() if k != "unet"
    }


@pytest.mark.parametrize(
    "fixture", ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "starter_teacher"]
)
def test_folders_agree_with_their_files(fixture, request):
    path: Path = request.getfixturevalue(fixture)
    found = inspect_components(path)["components"]
    for name in found:
        if name.startswith("vae_"):
            continue
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        with safe_open(path / name / f"{stem}.safetensors", framework="pt") as file:
            tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
        assert found[name]["parameters"] == sum(t.numel() for t in tensors)
        assert found[name]["tensors"] == len(tensors)
        assert found[name]["bytes"] == sum(t.numel() * t.element_size() for t in tensors)


@pytest.fixture
def folder(tiny_teacher, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_teacher, tmp_path / "copy"))


def test_bytes_are_of_the_stored_precision(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = {name: value.half() for name, value in load_file(file).items()}
    save_file(state, file)
    unet = inspect_components(folder)["components"]["unet"]
    assert unet["bytes"] == 2 * unet["parameters"]
    student = inspect_components(folder, preset="bk-sdm-small")["components"]["unet"]
    assert student["bytes"] == 2 * student["parameters"] < unet["bytes"]


def test_sharded_weights_are_added_up(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = inspect_components(folder)["components"]["unet"]
    items = sorted(load_file(file).items())
    listed = {}
    for i, part in enumerate((items[:100], items[100:])):
        shard = f"{file.stem}-0000{i + 1}-of-00002.safetensors"
        save_file(dict(part), file.with_name(shard))
        listed |= dict.fromkeys(dict(part), shard)
    file.unlink()
    index = file.with_name(f"{file.name}.index.json")
    index.write_text(json.dumps({"weight_map": listed}))
    assert inspect_components(folder)["components"]["unet"] == whole


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02" + bytes(7) + b"[]"])
def test_broken_weight_files(folder, content):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="whole safetensors file"):
        inspect_components(folder)


def test_bad_requests(folder, tmp_path):
    with pytest.raises(InputError, match="exactly one"):
        inspect_components()
    with pytest.raises(InputError, match="exactly one"):
        inspect_components(folder, arch="sd15")
    with pytest.raises(InputError, match="sd15, sd21, sdxl"):
        inspect_components(arch="sd14")
    with pytest.raises(InputError, match="bk-sdm-base"):
        inspect_components(arch="sd15", preset="bk-sdm")


def test_folders_are_judged_as_by_every_other_verb(folder, tmp_path):
    from edgekd.diffusion.validate import inspect_folder

    def same(path):
        said = []
        for judge in (inspect_components, inspect_folder):
            with pytest.raises(InputError) as caught:
                judge(path)
            said.append(str(caught.value))
        assert said[0] == said[1]
        return said[0]

    assert "with `model_index.json`" in same(tmp_path / "nowhere")
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    for change in ({"sample_size": [8, 16]}, {"in_channels": 9}, {"dual_cross_attention": True}):
        path.write_text(json.dumps({**config, **change}))
        same(folder)
    path.write_text(json.dumps(config))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert "must hold `diffusion_pytorch_model.safetensors`" in same(folder)


@pytest.mark.parametrize(
    "change", [{"mid_block_type": "UNetMidBlock2D"}, {"only_cross_attention": True},
               {"resnet_time_scale_shift": "scale_shift"}]
)  # fmt: skip
def test_unets_of_other_layouts(change, folder):
    from edgekd.libraries import diffusers

    config = json.loads((folder / "unet" / "config.json").read_text())
    unet = diffusers.UNet2DConditionModel.from_config({**config, **change})
    unet.save_pretrained(folder / "unet")
    found = inspect_components(folder)["components"]["unet"]
    assert found["parameters"] == sum(value.numel() for value in unet.parameters())
    assert found["macs"] > 0


def test_a_latent_consistency_student(tiny_lcm_student):
    found = inspect_components(tiny_lcm_student)["components"]
    for key, value in found["vae"].items():
        assert value == found["vae_encoder"][key] + found["vae_decoder"][key]


def test_folders_and_shapes_are_counted_alike(starter_teacher):
    configs = {
        name: json.loads((starter_teacher / name / "config.json").read_text())
        for name in ("text_encoder", "unet", "vae")
    }
    whole, halves = (
        inspect_components(starter_teacher)["components"],
        vae_cost(configs["vae"], SIZE),
    )
    costs = {
        "text_encoder": text_encoder_cost(configs["text_encoder"], projection=False),
        "unet": unet_cost(full(configs["unet"]), configs["unet"], SIZE, 32),
        **dict(zip(("vae_encoder", "vae_decoder"), halves, strict=True)),
    }
    for name, cost in costs.items():
        assert {**whole[name], "bytes": 0} == {**asdict(cost), "bytes": 0}
