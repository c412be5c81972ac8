"""The Android app's tokenizer, noise, samplers, pipeline and ONNX Runtime calls, on a JVM."""

import json
import random
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.exports import PROMPTS, group
from fixtures.jvm import MISSING, Jvm

from edgekd.bundle.android import KIND, MODEL
from edgekd.bundle.contents import read_contents
from edgekd.bundle.model import MODEL_FILE
from edgekd.diffusion.single_file.vocabulary import write_tokenizer
from edgekd.files import write_json
from edgekd.progress import Silent
from edgekd.resources import STARTER, data_root
from edgekd.runtime import Pipeline
from edgekd.runtime.tokenizer import ClipTokenizer

# Java and npm are tools that edgekd cannot bring along; without them there is no client to test.
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}"),
    group("onnx", "starter_teacher"),  # whose export the pictures are drawn with
]
VECTORS = data_root() / "export_targets" / "testdata" / "vectors.json"
TOKENIZER = STARTER / "teacher" / "tokenizer"
SEED = 7


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers") / "clip"
    write_tokenizer(folder, "<|endoftext|>", 77)
    return folder


@pytest.fixture(scope="module")
def exported(export_to, starter_teacher) -> Path:
    return export_to(starter_teacher, "onnx", "ort-int8").path


@pytest.fixture(scope="module")
def model(exported, tmp_path_factory) -> Path:
    """The model of a bundle."""
    folder = tmp_path_factory.mktemp("bundles") / "android"
    KIND.fill(folder, read_contents(exported), Silent())
    return folder / MODEL


@pytest.fixture(scope="module")
def answer(jvm, clip) -> dict[str, Any]:
    """What Kotlin makes of the vectors."""
    return _vectors(jvm, VECTORS, clip)


def _vectors(jvm: Jvm, vectors: Path, clip: Path) -> dict[str, Any]:
    done = jvm.run("vectors", vectors, TOKENIZER, clip)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return json.loads(VECTORS.read_text(encoding="utf-8"))


def test_tokens_are_those_of_transformers(answer, told):
    wrong = [
        (entry["tokenizer"], entry["prompt"])
        for entry, found in zip(told["tokens"], answer["tokens"], strict=True)
        if entry["input_ids"] != found
    ]
    assert wrong == []


def test_noise_is_that_of_torch(answer, told):
    for entry, found in zip(told["noise"], answer["noise"], strict=True):
        values = np.array(found)
        if "values" in entry:
            np.testing.assert_allclose(values, entry["values"], rtol=0, atol=3e-6)
            continue
        assert len(values) == np.prod(entry["shape"])
        np.testing.assert_allclose(values[:16], entry["head"], rtol=0, atol=3e-6)
        np.testing.assert_allclose(values[-16:], entry["tail"], rtol=0, atol=3e-6)
        assert values.sum() == pytest.approx(entry["sum"], abs=1e-2)


def test_trajectories_are_those_of_diffusers(answer, told):
    for entry, found in zip(told["trajectories"], answer["trajectories"], strict=True):
        timesteps, *latents = found
        np.testing.assert_allclose(timesteps, entry["timesteps"], rtol=0, atol=1e-3)
        for one, wanted in zip(latents, entry["latents"], strict=True):
            np.testing.assert_allclose(one, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_any_text_has_the_tokens_of_python(jvm, clip, tmp_path):
    """Characters that Unicode had in its version 3.2: later ones are not in every JVM's tables."""
    known = unicodedata.ucd_3_2_0
    odd = ("Cn", "Cs")  # lone surrogates are no text
    characters = [chr(code) for code in range(0x2FA1E) if known.category(chr(code)) not in odd]
    draw = random.Random(0)
    common = [*"  aeiostAEIS'.,!<|>0123\u0301\u03a3\u03c3\u0130\u00df", "'s", "'LL"]
    prompts = [
        "".join(draw.choice(draw.choice([common, characters])) for _ in range(24))
        for _ in range(600)
    ]
    entries = [{"tokenizer": "clip", "prompt": prompt} for prompt in prompts]
    asked = tmp_path / "asked.json"
    write_json(asked, {"tokens": entries, "noise": [], "trajectories": []})
    ids, _ = ClipTokenizer(clip, 49408)(prompts)
    found = _vectors(jvm, asked, clip)["tokens"]
    wrong = [p for p, one, row in zip(prompts, found, ids.tolist(), strict=True) if one != row]
    assert wrong == []


def test_a_seed_draws_the_picture_of_python(jvm, exported, model, tmp_path):
    """PSNR of pictures by ONNX Runtime 1.17 in Kotlin and by this machine's in Python."""
    prompts = [*PROMPTS, "a green cat \u2603"]
    wanted = Pipeline.open(exported, threads=1).generate(prompts, seed=SEED)
    done = jvm.run("draw", model, SEED, "-", "-", tmp_path / "picture", *prompts)
    assert done.returncode == 0, done.stderr
    for index, picture in enumerate(wanted.astype(np.float64)):
        raw = (tmp_path / f"picture.{index}").read_bytes()
        found = np.frombuffer(raw, np.uint8).reshape(picture.shape)
        error = np.square(picture - found).mean()
        assert error < 255**2 / 10**3.5  # 35 dB


def test_a_request_that_cannot_be_drawn_is_one_line(jvm, model, tmp_path):
    done = jvm.run("draw", model, SEED, 0, "-", tmp_path / "picture", "red apple")
    assert (done.returncode, done.stderr) == (
        2,
        "error: `1 <= steps <= 1000` must hold, but got 0\n",
    )


def test_a_damaged_model_is_refused(jvm, model, tmp_path):
    damages = {
        "whole": lambda folder: None,
        "no list": lambda folder: (folder / MODEL_FILE).unlink(),
        "missing": lambda folder: (folder / "tokenizer" / "merges.txt").unlink(),
        "cut": lambda folder: _write(folder / "unet" / "model.ort", lambda raw: raw[:-1]),
        "changed": lambda folder: _write(folder / "unet" / "model.ort", _flip),
        "no JSON": lambda folder: _write(folder / MODEL_FILE, lambda raw: raw[:-3]),
        "outside": lambda folder: _write(
            folder / MODEL_FILE, lambda raw: raw.replace(b'"unet/model.ort"', b'"../model.ort"')
        ),
        "other sampler": lambda folder: _write(
            folder / MODEL_FILE, lambda raw: raw.replace(b'"DDIMScheduler"', b'"UniPC"')
        ),
    }
    for name, damage in damages.items():
        shutil.copytree(model, tmp_path / name)
        damage(tmp_path / name)
    done = jvm.run("open", *(tmp_path / name for name in damages))
    assert done.returncode == 0, done.stderr
    said = dict(zip(damages, json.loads(done.stdout), strict=True))
    assert said.pop("whole") == ""
    assert "must hold model.json" in said["no list"]
    assert "tokenizer/merges.txt is missing" in said["missing"]
    assert "unet/model.ort has" in said["cut"]
    assert "unet/model.ort is damaged" in said["changed"]
    assert "JSON must have" in said["no JSON"]
    assert "must lie beside it" in said["outside"]
    assert "the scheduler must be one of" in said["other sampler"]


def _write(path: Path, change: Any) -> None:
    path.write_bytes(change(path.read_bytes()))


def _flip(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
