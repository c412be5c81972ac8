import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.diffusion.load import load_pipeline
from edgekd.errors import InputError
from edgekd.export.lora import check_lora, fuse_lora
from edgekd.export.manifest import LoraOrigin, read_manifest, source_hash
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.parity import psnr_db
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.record import Session, draw
from edgekd.files import hash_file
from edgekd.progress import Silent

GENERATION = Generation(steps=2, guidance_scale=3.0)
SESSION = Session(prompts=("red apple",), steps=2, guidance_scale=3.0)


@pytest.fixture(scope="module")
def lora(tiny_lora) -> Path:
    return tiny_lora


def _export(source: Path, out: Path, lora: Path) -> Any:
    options = ExportOptions(("red apple",), GENERATION, lora=lora)
    return OnnxExporter().export(source, out, "fp32", Silent(), options)


def test_export_equals_torch_with_the_lora_beside_it(tiny_teacher, lora, tmp_path):
    exported = _export(tiny_teacher, tmp_path / "out", lora)
    reference = load_pipeline(tiny_teacher)
    plain = draw(reference, SESSION)
    reference.load_lora_weights(str(lora.parent), weight_name=lora.name)
    expected = draw(reference, SESSION)
    images = draw(OnnxExporter().load(exported.path, 1), SESSION)
    assert psnr_db(expected, images) > 50  # the floor of whole pictures in fp32
    assert psnr_db(plain, images) < 40  # and the LoRA does something
    source = read_manifest(exported.path).source
    assert source.lora == LoraOrigin(file=lora.name, hash=hash_file(lora))
    assert source.hash != source_hash(tiny_teacher)


def test_fused_pipeline_is_a_plain_one(tiny_teacher, lora, tmp_path):
    fuse_lora(load_pipeline(tiny_teacher), lora, tmp_path / "fused")
    fused = load_pipeline(tmp_path / "fused")
    reference = load_pipeline(tiny_teacher)
    reference.load_lora_weights(str(lora.parent), weight_name=lora.name)
    np.testing.assert_allclose(draw(fused, SESSION), draw(reference, SESSION), atol=1e-4)


def _pickled(path: Path, lora: Path) -> Path:
    torch.save(load_file(lora), path / "lora.bin")
    return path / "lora.bin"


def _pickle_with_another_name(path: Path, lora: Path) -> Path:
    torch.save(load_file(lora), path / "lora.safetensors")
    return path / "lora.safetensors"


def _dora(path: Path, lora: Path) -> Path:
    state = load_file(lora)
    name = next(iter(state)).split(".lora_A.")[0].split(".lora.")[0]
    save_file({**state, f"{name}.dora_scale": torch.ones(1)}, path / "dora.safetensors")
    return path / "dora.safetensors"


def _no_lora(path: Path, lora: Path) -> Path:
    save_file({"unet.weight": torch.zeros(2)}, path / "other.safetensors")
    return path / "other.safetensors"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path, lora: path / "none.safetensors", "no file"),
        (_pickled, "pickles are never loaded"),
        (_pickle_with_another_name, "whole safetensors file"),
        (_no_lora, "must hold LoRA tensors"),
        (_dora, r"must be a LoRA's, but got `.*dora_scale` and 0 others"),
    ],
)
def test_files_that_are_no_lora_are_refused(tmp_path, lora, tiny_teacher, make, said):
    with pytest.raises(InputError, match=said) as error:
        _export(tiny_teacher, tmp_path / "out", make(tmp_path, lora))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def _other_names(state: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("down_blocks.1", "down_blocks.7"): x for name, x in state.items()}


def _other_width(state: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.cat([x, x], 1) if ".lora_A." in name else x for name, x in state.items()}


def _other_prefix(state: dict[str, Any]) -> dict[str, Any]:
    return {f"transformer.{name}": x for name, x in state.items()}


def _not_finite(state: dict[str, Any]) -> dict[str, Any]:
    return {name: x * float("nan") for name, x in state.items()}


@pytest.mark.parametrize("change", [_other_names, _other_width, _other_prefix, _not_finite])
def test_a_lora_of_another_model_is_one_line(tmp_path, lora, tiny_teacher, change):
    other = tmp_path / "other.safetensors"
    save_file(change(load_file(lora)), other)
    with pytest.raises(InputError, match="LoRA") as error:
        _export(tiny_teacher, tmp_path / "out", other)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_names_its_install_command(lora, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'edgekd\[lora\]'"):
        check_lora(lora)
