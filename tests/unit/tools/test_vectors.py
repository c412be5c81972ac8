"""The shared vectors are what the outside references give, and our own runtime agrees with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd import resources
from edgekd.diffusion.single_file.vocabulary import SPECIAL, write_tokenizer
from edgekd.runtime.noise import TorchGenerator
from edgekd.runtime.samplers import make_sampler
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.tokenizer import ClipTokenizer
from tools.vectors import make

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(make.OUT.read_text(encoding="utf-8"))
# Where torch has no vector code for a processor it rounds the angle elsewhere: see runtime/noise.
NOISE = 3e-6
# Float32 in another order of operations, over ten steps.
STEPS = 1e-5


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Within the tolerance of the largest value, or of one."""
    scale = max(1.0, float(np.abs(np.asarray(expected)).max()))
    assert np.abs(np.asarray(found) - np.asarray(expected)).max() <= tolerance * scale


@pytest.fixture(scope="module")
def made() -> dict[str, list[dict[str, Any]]]:
    # As the file has it: tuples are lists there.
    vectors: dict[str, list[dict[str, Any]]] = json.loads(make.text(make.make()))
    return vectors


def test_file_is_small_and_plain_json():
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = make.OUT.read_text(encoding="ascii")
    json.loads(text, parse_constant=refuse)
    assert len(text) <= 100_000


def test_tokens_are_what_transformers_gives(made):
    assert VECTORS["tokens"] == made["tokens"]


def test_noise_is_what_torch_draws(made):
    for entry, anew in zip(VECTORS["noise"], made["noise"], strict=True):
        assert (entry["seed"], entry["shape"]) == (anew["seed"], anew["shape"])
        for name in {"values", "head", "tail"} & entry.keys():
            close(anew[name], entry[name], NOISE)


def test_trajectories_are_what_diffusers_draws(made):
    for entry, anew in zip(VECTORS["trajectories"], made["trajectories"], strict=True):
        assert parse_config(entry["scheduler"]) == parse_config(anew["scheduler"])
        close(anew["timesteps"], entry["timesteps"], 1e-6)
        for found, expected in zip(anew["latents"], entry["latents"], strict=True):
            close(found, expected, STEPS)


def test_own_tokenizer(tmp_path):
    write_tokenizer(tmp_path / "clip", SPECIAL[1], 77)
    starter: Path = resources.STARTER / "teacher" / "tokenizer"
    tokenizers = {
        "starter": ClipTokenizer(starter, 4514),
        "clip": ClipTokenizer(tmp_path / "clip", 49408),
    }
    for entry in VECTORS["tokens"]:
        ids, _ = tokenizers[entry["tokenizer"]]([entry["prompt"]])
        assert ids[0].tolist() == entry["input_ids"], entry["prompt"]


@pytest.mark.parametrize("entry", VECTORS["noise"], ids=lambda e: f"{e['seed']}-{e['shape']}")
def test_own_noise(entry):
    values = TorchGenerator(entry["seed"]).randn(entry["shape"]).reshape(-1)
    if "values" in entry:
        close(values, entry["values"], NOISE)
        return
    close(values[: make.ENDS], entry["head"], NOISE)
    close(values[-make.ENDS :], entry["tail"], NOISE)
    assert abs(float(values.astype(np.float64).sum()) - entry["sum"]) < 1e-2


def toy_unet(sample: np.ndarray, timestep: float) -> np.ndarray:
    return (0.5 * np.tanh(sample) + 0.1 * np.cos(timestep / 100)).astype(np.float32)


@pytest.mark.parametrize(
    "entry", VECTORS["trajectories"], ids=lambda e: f"{e['scheduler']['_class_name']}-{e['steps']}"
)
def test_own_samplers(entry):
    sampler = make_sampler(parse_config(entry["scheduler"]), entry["steps"])
    close(sampler.timesteps, entry["timesteps"], 1e-6)
    generator = TorchGenerator(entry["seed"])

    def draw() -> np.ndarray:
        return generator.randn(entry["shape"])

    latents = draw() * np.float32(sampler.initial_scale)
    for index, timestep in enumerate(sampler.timesteps):
        output = toy_unet(sampler.model_input(latents, index), float(timestep))
        latents = sampler.step(output, latents, index, draw)
        close(latents.reshape(-1), entry["latents"][index], STEPS)
