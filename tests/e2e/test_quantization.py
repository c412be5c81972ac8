"""Quantization recipes from the command line to the exported folder, and on to a fine-tune."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from edgekd.cli.app import app
from edgekd.diffusion.load import load_pipeline
from edgekd.errors import InputError
from edgekd.export.bits import choices, held_out
from edgekd.export.bits.recipe import QuantizationRecipe, load_quantization, resolve
from edgekd.export.bits.sensitivity import noise_db, rounded
from edgekd.export.bits.weights import models
from edgekd.export.capture import capture
from edgekd.export.manifest import content_hash, read_manifest, source_hash
from edgekd.export.onnx.bits import ONNX_STORAGE
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.parity import snr_db
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.files import hash_tree
from edgekd.progress import Silent

PROMPTS = ["red apple"]
NAMED = {
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight": 4,
    "down_blocks.1.resnets.0.conv1.weight": 6,
    "conv_in.weight": "float",
}
RECIPE = {
    "format": 1,
    "method": "linear",
    "components": {
        "unet": {"default": 8, "bits": NAMED},
        "text_encoder": {"default": 6},
        "vae": {"default": 8},
    },
}


def export(source: Path, out: Path, recipe: QuantizationRecipe) -> Path:
    options = ExportOptions(tuple(PROMPTS), generation=Generation(steps=2), quantization=recipe)
    return OnnxExporter().export(source, out, "mixed", Silent(), options).path


@pytest.fixture(scope="module")
def recipe() -> QuantizationRecipe:
    return QuantizationRecipe.model_validate(RECIPE)


@pytest.fixture(scope="module")
def exported(shallow_teacher, recipe, tmp_path_factory) -> Path:
    return export(shallow_teacher, tmp_path_factory.mktemp("mixed") / "out", recipe)


@pytest.fixture(scope="module")
def fine_tune(shallow_teacher, tmp_path_factory) -> Path:
    """The same architecture, other weights."""
    path = tmp_path_factory.mktemp("fine-tune") / "teacher"
    shutil.copytree(shallow_teacher, path)
    pipeline = load_pipeline(shallow_teacher)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in pipeline.unet.parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise * 0.05 * tensor.abs().mean())
    shutil.rmtree(path / "unet")
    pipeline.unet.save_pretrained(path / "unet", safe_serialization=True)
    assert hash_tree(path / "unet") != hash_tree(shallow_teacher / "unet")
    return path


def stored_bits(exported: Path, part: str) -> dict[str, int]:
    facts = read_manifest(exported).components[part].model_dump()
    bits: dict[str, int] = facts["quantization"]["bits_by_tensor"]
    return bits


def test_export_stores_the_bits_of_its_recipe(shallow_teacher, exported, recipe):
    manifest = read_manifest(exported)
    assert manifest.precision == "mixed"
    assert manifest.quantization.recipe == "quantization.yaml"
    assert load_quantization(exported / "quantization.yaml") == recipe
    expected = resolve(recipe, models(load_pipeline(shallow_teacher, only=())), ONNX_STORAGE)
    found = stored_bits(exported, "unet")
    assert found == {name: bits for name, bits in expected["unet"].items() if bits is not None}
    assert {found[name] for name in NAMED if name in found} == {4, 6}
    vae = stored_bits(exported, "vae_decoder") | stored_bits(exported, "vae_encoder")
    assert vae == {name: bits for name, bits in expected["vae"].items() if bits is not None}


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae_decoder", "vae_encoder"])
def test_export_computes_what_torch_does_with_rounded_weights(
    shallow_teacher, exported, recipe, part
):
    pipeline = load_pipeline(shallow_teacher)
    captured = capture(pipeline, part)
    inputs = captured.example_inputs
    if part.startswith("vae"):  # the example is zeros
        generator = torch.Generator().manual_seed(0)
        inputs = {
            name: torch.randn(value.shape, generator=generator) for name, value in inputs.items()
        }
    found = models(pipeline)
    with torch.inference_mode(), rounded(found, resolve(recipe, found, ONNX_STORAGE), ONNX_STORAGE):
        expected = captured.module(*inputs.values())
    run = OnnxExporter().open_component(exported, part)
    outputs = run({name: value.numpy() for name, value in inputs.items()})
    for name, value in zip(captured.outputs, expected, strict=True):
        # As the fp32 precision: sums in another order are all that differs.
        assert snr_db(value.numpy(), outputs[name]) > 80


def test_same_input_same_export(shallow_teacher, exported, recipe, tmp_path):
    again = export(shallow_teacher, tmp_path / "again", recipe)
    assert content_hash(again) == content_hash(exported)


def test_saved_recipe_fits_a_fine_tune(exported, fine_tune, tmp_path):
    recipe = load_quantization(exported / "quantization.yaml")
    tuned = export(fine_tune, tmp_path / "tuned", recipe)
    assert stored_bits(tuned, "unet") == stored_bits(exported, "unet")
    manifest = read_manifest(tuned)
    assert manifest.pictures.psnr_db >= manifest.pictures.floor_db
    assert manifest.content_hash != read_manifest(exported).content_hash


def test_recipe_of_another_architecture_is_refused(tiny_sdxl_teacher, exported, tmp_path):
    recipe = load_quantization(exported / "quantization.yaml")
    values = recipe.model_dump()
    values["components"]["unet"]["bits"]["down_blocks.3.resnets.0.conv1.weight"] = 6
    with pytest.raises(
        InputError, match=r"exist in `unet`, but got .* down_blocks\.3\.resnets\.0\.conv1\.weight"
    ):
        export(tiny_sdxl_teacher, tmp_path / "out", QuantizationRecipe.model_validate(values))
    assert not (tmp_path / "out").exists()


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture
def few_drawings(monkeypatch) -> None:
    monkeypatch.setattr(choices, "UNITS_PER_COMPONENT", 4)
    monkeypatch.setattr(held_out, "HELD_OUT_PROMPTS", held_out.HELD_OUT_PROMPTS[:3])


@pytest.mark.usefixtures("few_drawings")
def test_auto_from_the_command_line(shallow_teacher, tmp_path):
    out = tmp_path / "out"
    result = run(
        shallow_teacher, "--out", out, "--prompt", "red apple", "--quantize", "auto",
        "--steps", "4", "--max-drop", "6", "--size-budget", "1MB", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    measured = answer["quantization"]["measured"]
    assert measured["drop_db"] <= 6.005
    assert measured["held_out"]["drop_db"] <= 6
    assert len(measured["held_out"]["prompts"]) == 3
    assert measured["weights_bytes"] <= 10**6 < measured["uniform_weights_bytes"]
    saved = yaml.safe_load((out / "quantization.yaml").read_text(encoding="utf-8"))
    assert saved["measured"]["psnr_db"] == measured["psnr_db"]
    # The files are the weights and their graphs. What was measured in torch holds in onnxruntime.
    assert answer["pictures"]["psnr_db"] == pytest.approx(measured["psnr_db"], abs=0.5)
    assert np.isfinite(answer["pictures"]["psnr_db"])
    # Of the measured prompts, and of the held-out ones.
    assert len(list((tmp_path / "out-sensitivity").glob("*.jsonl"))) == 2


def auto_for(target: str, source: Path, out: Path, arithmetic_db: float) -> None:
    """Export with bits that are chosen here.

    Args:
        arithmetic_db: what the pictures lose besides, to bf16 or to float16; 5 dB and more below
            what exports of this teacher in float weights were seen to keep.
    """
    result = run(source, "--out", out, *options_for(target), "auto", "--max-drop", "6")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    measured = answer["quantization"]["measured"]
    assert max(measured["drop_db"], measured["held_out"]["drop_db"]) <= 6.005
    assert measured["weights_bytes"] < measured["uniform_weights_bytes"]
    noises = [10 ** (-db / 10) for db in (measured["psnr_db"], arithmetic_db)]
    assert answer["pictures"]["psnr_db"] >= noise_db(sum(noises))
    assert len(set(stored_bits(out, "unet").values())) > 1


def options_for(target: str) -> tuple[str, ...]:
    return ("--target", target, "--prompt", "red apple", "--steps", "4", "--json", "--quantize")


@pytest.mark.usefixtures("few_drawings")
def test_auto_for_core_ml(shallow_teacher, tmp_path):
    auto_for("coreml", shallow_teacher, tmp_path / "out", 60.0)


@pytest.mark.usefixtures("few_drawings")
def test_auto_for_openvino_and_on_to_a_fine_tune(shallow_teacher, fine_tune, tmp_path):
    """A saved recipe takes the way of one that was just made, whatever the runtime."""
    first, second = tmp_path / "first", tmp_path / "second"
    auto_for("openvino", shallow_teacher, first, 45.0)
    recipe = first / "quantization.yaml"
    result = run(fine_tune, "--out", second, *options_for("openvino"), recipe)
    assert result.exit_code == 0, result.output
    assert stored_bits(second, "unet") == stored_bits(first, "unet")
    assert read_manifest(second).source != read_manifest(first).source


@pytest.mark.usefixtures("few_drawings")
def test_auto_measures_the_pipeline_with_its_lora(shallow_teacher, tiny_lora, tmp_path):
    out = tmp_path / "out"
    result = run(
        shallow_teacher, "--out", out, "--prompt", "red apple", "--quantize", "auto",
        "--steps", "4", "--max-drop", "6", "--lora", tiny_lora,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    recipe = load_quantization(out / "quantization.yaml")
    manifest = read_manifest(out)
    assert recipe.source.hash == manifest.source.hash != source_hash(shallow_teacher)
    # The bits were chosen for the weights that were exported.
    assert manifest.pictures.psnr_db == pytest.approx(recipe.measured.psnr_db, abs=0.5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--quantize", "auto"], "`--quantize auto` needs --max-drop or --size-budget"),
        (["--max-drop", "1"], "--max-drop and --size-budget go with `--quantize auto`"),
        (["--quantize", "no-such.yaml"], "a recipe's file, or one of target `onnx` ("),
        (["--quantize", "x.yaml", "--max-drop", "1"], "go with `--quantize auto`"),
        (["--quantize", "auto", "--max-drop", "-1"], "`--max-drop >= 0` dB must hold"),
        (["--quantize", "auto", "--size-budget", "20 bananas"], "a size must be a number"),
        (
            ["--quantize", "auto", "--max-drop", "1", "--precision", "int8"],
            "a quantization recipe has the precision `mixed`, but got 'int8'",
        ),
    ],
)
def test_bad_options_are_one_clear_line(shallow_teacher, tmp_path, options, problem):
    result = run(shallow_teacher, "--out", tmp_path / "out", *options)
    message = str(result.exception) if result.exception is not None else result.output
    assert problem in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())
