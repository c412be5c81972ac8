"""Pipeline -> original layout -> import -> the same pictures."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.checkpoints import SIZE, make_pipeline, save_checkpoint, to_checkpoint, with_average
from safetensors.torch import load_file

from edgekd.diffusion.load import load_pipeline
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.diffusion.single_file.importer import ImportChoices, ImportFacts, import_once
from edgekd.diffusion.validate import inspect_teacher
from edgekd.errors import InputError

FAMILIES = ["sd1", "sd2", "sdxl"]
CHOICES = ImportChoices("epsilon", SIZE)
UNET = "unet/diffusion_pytorch_model.safetensors"
State = dict[str, torch.Tensor]


def draw(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    return pipeline(
        "A red apple, 3d", num_inference_steps=3, generator=generator, output_type="np"
    ).images


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    return {family: make_pipeline(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def states(pipelines) -> dict[str, State]:
    return {family: to_checkpoint(pipeline, family) for family, pipeline in pipelines.items()}


@pytest.fixture(scope="module")
def files(states, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        family: save_checkpoint(state, folder / f"{family}.safetensors")
        for family, state in states.items()
    }


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


def test_stock_diffusers_loads_the_folder(files, pipelines, tmp_path):
    from edgekd.libraries import diffusers

    import_once(files["sdxl"], tmp_path / "teacher", CHOICES)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "teacher")
    np.testing.assert_array_equal(draw(loaded), draw(pipelines["sdxl"]))


def test_a_model_of_velocity_draws_as_its_pipeline(tmp_path):
    own = make_pipeline("sd2", "v_prediction")
    file = save_checkpoint(to_checkpoint(own, "sd2"), tmp_path / "model.safetensors")
    # Random weights give back no noise: found to be the 768-pixel model.
    facts = import_once(file, tmp_path / "found", ImportChoices())
    assert (facts.prediction, facts.size) == ("v_prediction", 768)
    assert facts.prediction_by == "by what it makes of noise"
    import_once(file, tmp_path / "teacher", ImportChoices(size=SIZE))
    np.testing.assert_array_equal(draw(load_pipeline(tmp_path / "teacher")), draw(own))


SAID: list[tuple[dict[str, str], tuple[str, ...], str, int]] = [
    ({}, (), "epsilon", 512),
    ({"modelspec.resolution": "256x256"}, (), "epsilon", 256),
    ({"modelspec.resolution": "256x128"}, (), "epsilon", 512),
    ({"modelspec.prediction_type": "v"}, (), "v_prediction", 512),
    ({}, ("v_pred", "ztsnr"), "v_prediction", 512),
]


@pytest.mark.parametrize(("metadata", "marks", "prediction", "size"), SAID)
def test_what_the_file_says(metadata, marks, prediction, size, states, tmp_path):
    state = {**states["sd1"], **{mark: torch.zeros(0) for mark in marks}}
    file = save_checkpoint(state, tmp_path / "model.safetensors", **metadata)
    import_once(file, tmp_path / "teacher", ImportChoices())
    info = inspect_teacher(tmp_path / "teacher")
    assert (info.prediction_type, info.resolution) == (prediction, size)
    schedule = json.loads((tmp_path / "teacher/scheduler/scheduler_config.json").read_text())
    assert schedule["rescale_betas_zero_snr"] == ("ztsnr" in marks)


def test_the_average_is_taken(states, tmp_path):
    file = save_checkpoint(with_average(states["sd1"]), tmp_path / "model.safetensors")
    facts = import_once(file, tmp_path / "teacher", CHOICES)
    assert facts.ema
    assert "averaged (EMA) U-Net" in facts.summary()
    found = load_file(tmp_path / "teacher" / UNET)["conv_in.weight"]
    name = "model.diffusion_model.input_blocks.0.0.weight"
    torch.testing.assert_close(found, states["sd1"][name] * 0.5, rtol=0, atol=0)


def _without_vae(state: State) -> State:
    return {k: x for k, x in state.items() if not k.startswith("first_stage_model.")}


def _only_vae(state: State, prefix: str) -> State:
    name = "first_stage_model."
    return {prefix + k.removeprefix(name): x for k, x in state.items() if k.startswith(name)}


def _vae_file(prefix: str) -> Callable[[Path, State, Any], Path]:
    return lambda folder, state, pipeline: save_checkpoint(
        _only_vae(state, prefix), folder / "vae.safetensors"
    )


def _vae_folder(folder: Path, state: State, pipeline: Any) -> Path:
    pipeline.vae.save_pretrained(folder / "own")
    return folder / "own"


def _pipeline_folder(folder: Path, state: State, pipeline: Any) -> Path:
    pipeline.vae.save_pretrained(folder / "pipeline" / "vae")
    return folder / "pipeline"


@pytest.mark.parametrize(
    "make", [_vae_file(""), _vae_file("first_stage_model."), _vae_folder, _pipeline_folder]
)
def test_a_given_vae(make, states, pipelines, tmp_path):
    file = save_checkpoint(_without_vae(states["sd1"]), tmp_path / "model.safetensors")
    vae = make(tmp_path, states["sd1"], pipelines["sd1"])
    with pytest.raises(InputError, match=r"must hold a VAE.*none in .* --vae"):
        import_once(file, tmp_path / "teacher", CHOICES)
    import_once(file, tmp_path / "teacher", dataclasses.replace(CHOICES, vae=vae))
    assert inspect_teacher(tmp_path / "teacher").resolution == SIZE
    np.testing.assert_array_equal(draw(load_pipeline(tmp_path / "teacher")), draw(pipelines["sd1"]))


def test_stored_numbers_are_kept_and_the_unused_said(states, tmp_path):
    state = {name: value.bfloat16() for name, value in states["sd1"].items()}
    file = save_checkpoint({**state, "notes": torch.ones(2)}, tmp_path / "model.safetensors")
    facts = import_once(file, tmp_path / "teacher", CHOICES)
    assert facts.unused == ("notes",)
    assert "1 tensors unused (notes, ...)" in facts.summary()
    assert load_file(tmp_path / "teacher" / UNET)["conv_in.weight"].dtype == torch.bfloat16


def test_it_is_made_once(files, tmp_path):
    folder = tmp_path / "teacher"
    first = import_once(files["sd1"], folder, CHOICES)
    made = (folder / UNET).stat().st_mtime_ns
    assert import_once(files["sd1"], folder, CHOICES) == first
    assert (folder / UNET).stat().st_mtime_ns == made
    # What is damaged or was asked for otherwise is made again.
    (folder / UNET).unlink()
    import_once(files["sd1"], folder, CHOICES)
    import_once(files["sd1"], folder, dataclasses.replace(CHOICES, size=2 * SIZE))
    assert inspect_teacher(folder).resolution == 2 * SIZE


Spoil = Callable[[State], State]
CONV = "model.diffusion_model.input_blocks.0.0.weight"
VAE_CONV = "first_stage_model.decoder.conv_in.weight"
CLIP_TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"


def _changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    return lambda state: {**state, name: change(state[name])}


def _less(fragment: str) -> Spoil:
    return lambda state: {k: x for k, x in state.items() if fragment not in k}


def _more(name: str) -> Spoil:
    return lambda state: {**state, name: torch.ones(3)}


BAD: list[tuple[Spoil, str]] = [
    (_changed(CONV, lambda x: x * float("nan")), "must be finite, but got `model.diffusion_model"),
    (_changed(VAE_CONV, lambda x: x / 0), "must be finite"),
    (_changed(CONV, lambda x: x.char()), "must be floating point, but got .*is I8"),
    (_changed(CONV, lambda x: x.to(torch.float8_e4m3fn)), "must be floating point.*is F8_E4M3"),
    (_changed(CLIP_TOKENS, lambda x: x[:100]), "ids of `tokenizer` must be below `vocab_size`"),
    (_changed(CLIP_TOKENS, lambda x: x[:, :48]), "cross_attention_dim=64, hidden_size=48"),
    (_less("input_blocks.1.1."), "missing|expected|must"),
    (_less("output_blocks.0.0.in_layers"), "missing"),
    (_less("post_quant_conv"), "must have `post_quant_conv.weight` with 4 dimensions"),
    (_less("encoder.layers.0.mlp.fc1"), "must have `encoder.layers.0.mlp.fc1.weight`"),
    (_more("model.diffusion_model.extra.weight"), "must have a place in diffusers' layout"),
    (_more("first_stage_model.decoder.extra.weight"), "must have a place in diffusers' layout"),
]


@pytest.mark.parametrize(("spoil", "said"), BAD)
def test_bad_weights_are_one_line_and_leave_nothing(spoil, said, states, tmp_path):
    file = save_checkpoint(spoil(states["sd1"]), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=said) as error:
        import_once(file, tmp_path / "teacher", CHOICES)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [file]


def test_a_size_that_no_latents_have(files, tmp_path):
    with pytest.raises(InputError, match=r"multiple of the VAE's factor 2, but got 17"):
        import_once(files["sd1"], tmp_path / "teacher", ImportChoices(size=17))


def test_a_file_stands_for_its_folder(files):
    folder = resolve_pipeline(str(files["sd1"]))
    assert inspect_teacher(folder).resolution == 512
    assert resolve_pipeline(str(files["sd1"])) == folder  # once in a process


def test_facts_of_many_unused_tensors():
    facts = ImportFacts("sd2", "epsilon", "as the file says", 512, False, ("a", "b"))
    assert facts.summary() == (
        "sd2, epsilon (as the file says), 512 pixels, U-Net, 2 tensors unused (a, ...)"
    )
