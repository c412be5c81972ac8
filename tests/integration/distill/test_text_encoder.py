"""The phase `text_encoder` whole: it learns, goes on after a stop, and any client draws with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.texts import deep_sdxl_teacher
from safetensors.torch import load_file

from edgekd.diffusion.encode import encode_prompts
from edgekd.diffusion.load import load_teacher
from edgekd.distill.folder import RunFolder
from edgekd.distill.loop import make_accelerator, train_text_encoder
from edgekd.distill.text_encoder import TextMatching
from edgekd.distill.trainer import Trainer
from edgekd.export.manifest import read_manifest
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.runtime import Pipeline
from edgekd.student.build import save_student
from edgekd.training.log import read_rows

__all__ = ["deep_sdxl_teacher"]
SETTINGS = {
    "steps": 30,
    "batch_size": 3,
    "learning_rate": 3e-3,
    "warmup_steps": 5,
    "ema_decay": 0.9,
    "checkpoint_every": 7,
    "validate_every": 30,
    "validation_samples": 6,
}


@pytest.fixture(scope="module")
def bench(make_bench, deep_sdxl_teacher) -> Any:
    return make_bench(deep_sdxl_teacher)


@pytest.fixture(scope="module")
def trained(bench, tmp_path_factory) -> Any:
    folder = RunFolder(tmp_path_factory.mktemp("text"), "key", "encoders", ())
    section = bench.section(text_encoder=SETTINGS)
    return train_text_encoder(section, bench, folder, Silent())


@pytest.fixture(scope="module")
def student(bench, trained, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "student"
    save_student(bench.teacher.info.path, bench.teacher.unet, out, trained.components)
    return out


def test_training_brings_it_nearer_to_the_teacher(trained):
    rows = [row for row in read_rows(trained.metrics_path) if "validation_cosine" in row]
    assert [row["step"] for row in rows] == [0, 30]
    for name in ("validation_embeddings", "validation_cosine"):
        assert rows[1][name] < 0.7 * rows[0][name]
    losses = [row for row in read_rows(trained.metrics_path) if "loss" in row]
    assert {"embeddings", "cosine", "grad_norm"} < set(losses[0])


def weights(part: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": tensor
        for name, folder in part.components.items()
        for key, tensor in load_file(folder / "model.safetensors").items()
    }


def test_a_stopped_run_goes_on_with_the_same_bits(bench, trained, tmp_path, monkeypatch):
    folder, accelerator = RunFolder(tmp_path, "key", "encoders", ()), make_accelerator()
    section = bench.section(text_encoder=SETTINGS)
    lesson = TextMatching(section, bench.load(accelerator.device), accelerator)
    stopped = Trainer(section.text_encoder, lesson, folder, accelerator)
    step = stopped._step

    def interrupted(n: int) -> dict[str, float]:
        if n == 17:
            raise KeyboardInterrupt
        return step(n)

    monkeypatch.setattr(stopped, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(Silent())
    assert folder.checkpoints.latest(Silent()).step == 14
    resumed = train_text_encoder(section, bench, folder, Silent())
    one, two = weights(trained), weights(resumed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    values = [
        [{k: v for k, v in row.items() if not k.endswith("_s")} for row in read_rows(p)]
        for p in (trained.metrics_path, resumed.metrics_path)
    ]
    assert values[0] == values[1]


def test_what_does_not_learn_is_the_teachers_still(bench, trained):
    state = load_file(trained.components["text_encoder"] / "model.safetensors")
    theirs = bench.teacher.text_encoders[0].state_dict()
    for name in ("embeddings.token_embedding", "embeddings.position_embedding", "final_layer_norm"):
        assert torch.equal(state[f"text_model.{name}.weight"], theirs[f"text_model.{name}.weight"])


def test_stock_diffusers_draws_with_its_own_text_encoders(bench, trained, student):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(student)
    encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    assert [one.config.num_hidden_layers for one in encoders] == [2, 2]
    states, _, pooled, _ = pipeline.encode_prompt("a red apple", do_classifier_free_guidance=True)
    own = encode_prompts(load_teacher(student), ["a red apple"])
    torch.testing.assert_close(states, own.encoder_hidden_states)
    torch.testing.assert_close(pooled, own.pooled)
    # What the phase has trained, and near the teacher's.
    for encoder, name in zip(encoders, trained.components, strict=True):
        learnt = load_file(trained.components[name] / "model.safetensors")
        assert all(torch.equal(tensor, learnt[key]) for key, tensor in encoder.state_dict().items())
    theirs = encode_prompts(bench.teacher, ["a red apple"]).encoder_hidden_states
    cosine = torch.cosine_similarity(states, theirs, dim=-1).mean()
    assert 0.8 < cosine < 0.9999


def test_it_exports_with_parity_and_the_runtime_draws(student, tmp_path):
    """Parity is the exporter's own gate."""
    options = ExportOptions(("a red apple",), generation=Generation(steps=1, guidance_scale=1.0))
    OnnxExporter().export(student, tmp_path / "export", "fp32", Silent(), options)
    parts = read_manifest(tmp_path / "export").components
    for name in ("text_encoder", "text_encoder_2"):
        assert parts[name].parity.snr_db >= parts[name].parity.floor_db > 40
    pipeline = Pipeline.open(tmp_path / "export", prompt_cache=1)
    first, again = (pipeline.generate(["a red apple"], seed=seed) for seed in (0, 0))
    assert first.shape == (1, 32, 32, 3)
    assert (first == again).all()
