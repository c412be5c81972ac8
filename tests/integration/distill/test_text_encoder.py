"""The phase `text_encoder` whole: it learns, goes on after a stop, and any client draws with it."""

from typing import Any

import pytest
import torch
from fixtures.bench import SHORT, curve, stop_at_17
from fixtures.texts import deep_sdxl_teacher
from safetensors.torch import load_file

from edgekd.diffusion.encode import encode_prompts
from edgekd.diffusion.load import load_teacher
from edgekd.distill.folder import RunFolder
from edgekd.distill.loop import make_accelerator, train_text_encoder
from edgekd.distill.text_encoder import TextMatching
from edgekd.distill.trainer import Trainer
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.runtime import Pipeline
from edgekd.student.build import save_student
from edgekd.training.log import read_rows

__all__ = ["deep_sdxl_teacher"]
SETTINGS = {**SHORT, "batch_size": 3, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def bench(make_bench, deep_sdxl_teacher) -> Any:
    return make_bench(deep_sdxl_teacher)


@pytest.fixture(scope="module")
def trained(bench, tmp_path_factory) -> Any:
    folder = RunFolder(tmp_path_factory.mktemp("text"), "key", "encoders", ())
    section = bench.section(text_encoder=SETTINGS)
    return train_text_encoder(section, bench, folder, Silent())


def test_training_brings_it_nearer_to_the_teacher(trained):
    rows = [row for row in read_rows(trained.metrics_path) if "validation_cosine" in row]
    assert [row["step"] for row in rows] == [0, 30]
    for name in ("validation_embeddings", "validation_cosine"):
        assert rows[1][name] < 0.7 * rows[0][name]


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
    stop_at_17(Trainer(section.text_encoder, lesson, folder, accelerator), monkeypatch)
    resumed = train_text_encoder(section, bench, folder, Silent())
    one, two = weights(trained), weights(resumed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert curve(trained) == curve(resumed)


def test_any_client_draws_with_its_own_text_encoders(bench, trained, tmp_path):
    """Of the export, parity is the exporter's own gate."""
    student, teacher = tmp_path / "student", bench.teacher
    save_student(teacher.info.path, teacher.unet, student, trained.components)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(student)
    encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    assert [one.config.num_hidden_layers for one in encoders] == [2, 2]
    learnt = weights(trained)
    for name, encoder in zip(trained.components, encoders, strict=True):
        assert all(torch.equal(t, learnt[f"{name}/{k}"]) for k, t in encoder.state_dict().items())
    states, _, pooled, _ = pipeline.encode_prompt("a red apple", do_classifier_free_guidance=True)
    own = encode_prompts(load_teacher(student), ["a red apple"])
    torch.testing.assert_close(states, own.encoder_hidden_states)
    torch.testing.assert_close(pooled, own.pooled)
    theirs = encode_prompts(teacher, ["a red apple"]).encoder_hidden_states
    assert 0.8 < torch.cosine_similarity(states, theirs, dim=-1).mean() < 0.9999
    options = ExportOptions(("a red apple",), generation=Generation(steps=1, guidance_scale=1.0))
    OnnxExporter().export(student, tmp_path / "export", "fp32", Silent(), options)
    drawn = Pipeline.open(tmp_path / "export").generate(["a red apple"])
    assert drawn.shape == (1, 32, 32, 3)
