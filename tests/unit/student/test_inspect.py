"""`inspect_components`: what users read, for folders and for published architectures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgekd.errors import InputError
from edgekd.student.inspect import inspect_components


@pytest.mark.parametrize(
    ("arch", "unet", "total"),
    [
        ("sd15", 859_520_964, 1_066_235_307),
        ("sd21", 865_910_724, 1_289_952_427),
        ("sdxl", 2_567_463_684, 3_468_837_867),
    ],
)
def test_published_architectures(arch: str, unet: int, total: int) -> None:
    found = inspect_components(arch=arch)
    assert found["components"]["unet"]["parameters"] == unet
    assert found["components"]["unet"]["bytes"] == 4 * unet
    assert found["total"]["parameters"] == total
    vae = found["components"]["vae"]
    for key, value in vae.items():
        halves = [found["components"][f"vae_{half}"][key] for half in ("encoder", "decoder")]
        assert value == sum(halves)
    assert ("text_encoder_2" in found["components"]) == (arch == "sdxl")


def test_native_latent_size_decides_the_macs() -> None:
    sizes = {
        arch: inspect_components(arch=arch)["latent_size"] for arch in ("sd15", "sd21", "sdxl")
    }
    assert sizes == {"sd15": [64, 64], "sd21": [96, 96], "sdxl": [128, 128]}


def test_a_student_replaces_the_unet_alone() -> None:
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
def test_folders_agree_with_their_files(fixture: str, request: pytest.FixtureRequest) -> None:
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
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_teacher, tmp_path / "copy"))


def test_bytes_are_of_the_stored_precision(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = {name: value.half() for name, value in load_file(file).items()}
    save_file(state, file)
    unet = inspect_components(folder)["components"]["unet"]
    assert unet["bytes"] == 2 * unet["parameters"]
    student = inspect_components(folder, preset="bk-sdm-small")["components"]["unet"]
    assert student["bytes"] == 2 * student["parameters"] < unet["bytes"]


def test_sharded_weights_are_added_up(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = inspect_components(folder)["components"]["unet"]
    items = sorted(load_file(file).items())
    for i, part in enumerate((items[:100], items[100:])):
        save_file(dict(part), file.with_name(f"{file.stem}-0000{i + 1}-of-00002.safetensors"))
    file.unlink()
    assert inspect_components(folder)["components"]["unet"] == whole


def test_configs_alone_are_enough(folder: Path) -> None:
    whole = inspect_components(folder)
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    assert inspect_components(folder) == whole  # the tiny teacher is stored in fp32


def test_weights_that_do_not_fit_the_config(folder: Path) -> None:
    save_file({"a": torch.zeros(3)}, folder / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match="parameters of its config"):
        inspect_components(folder)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02" + bytes(7) + b"[]"])
def test_broken_weight_files(folder: Path, content: bytes) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="whole safetensors file"):
        inspect_components(folder)


def test_bad_requests(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exactly one"):
        inspect_components()
    with pytest.raises(InputError, match="exactly one"):
        inspect_components(folder, arch="sd15")
    with pytest.raises(InputError, match="sd15, sd21, sdxl"):
        inspect_components(arch="sd14")
    with pytest.raises(InputError, match="bk-sdm-base"):
        inspect_components(arch="sd15", preset="bk-sdm")
    with pytest.raises(InputError, match="must exist"):
        inspect_components(tmp_path / "nowhere")
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(InputError, match="no vae in"):
        inspect_components(folder)
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        inspect_components(folder)


def test_other_models_are_refused(folder: Path) -> None:
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
    with pytest.raises(InputError, match="must be AutoencoderKL"):
        inspect_components(folder)


def test_bad_latent_size(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sample_size": [8, 8, 8]}))
    with pytest.raises(InputError, match="sample_size"):
        inspect_components(folder)


def test_a_fresh_process_needs_no_torch_and_little_time(starter_teacher: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edgekd.student.inspect import *\n"
        "inspect_components(arch='sdxl'); inspect_components(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", script, str(starter_teacher)], check=True)
    assert time.monotonic() - started < 10
