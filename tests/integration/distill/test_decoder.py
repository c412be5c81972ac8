"""The decoder phase whole: it learns, goes on after a stop, and its VAE is everyone's."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.bench import SHORT, curve, stop_at_17
from PIL import Image

from edgekd.artifacts import Trajectories
from edgekd.diffusion.load import load_model, load_pipeline
from edgekd.distill.decoder import DecoderMatching
from edgekd.distill.folder import RunFolder
from edgekd.distill.loop import make_accelerator, train_decoder
from edgekd.distill.trainer import Trainer
from edgekd.distill.trajectories import draw_trajectories
from edgekd.export.manifest import read_manifest
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.student.build import save_student
from edgekd.training.images import psnr_db
from edgekd.training.log import read_rows

SETTINGS = {**SHORT, "batch_size": 4, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def bench(make_bench, shallow_teacher) -> Any:
    return make_bench(shallow_teacher)


def _train(bench: Any, folder: RunFolder, **kind: Any) -> Any:
    return train_decoder(bench.section(decoder={**SETTINGS, **kind}), bench, None, folder, Silent())


@pytest.fixture(scope="module")
def trained(bench, tmp_path_factory) -> Any:
    return _train(bench, RunFolder(tmp_path_factory.mktemp("decoder"), "key", "vae"))


@pytest.fixture(scope="module")
def tiny(bench, tmp_path_factory) -> Any:
    folder = RunFolder(tmp_path_factory.mktemp("tiny-decoder"), "key", "vae")
    return _train(bench, folder, kind="tiny", width=0.25)


@pytest.fixture(params=["trained", "tiny"])
def either(request) -> Any:
    return request.getfixturevalue(request.param)


def _trainer(bench: Any, folder: RunFolder) -> Trainer:
    section, accelerator = bench.section(decoder=SETTINGS), make_accelerator()
    lesson = DecoderMatching(section, bench.load(accelerator.device), None, accelerator)
    return Trainer(section.decoder, lesson, folder, accelerator)


def test_training_brings_it_nearer_to_the_teacher(either):
    rows = [row for row in read_rows(either.metrics_path) if "validation_psnr_db" in row]
    assert [row["step"] for row in rows] == [0, 30]
    assert rows[1]["validation_moments"] < rows[0]["validation_moments"]
    losses = [row for row in read_rows(either.metrics_path) if "loss" in row]
    assert {"pixels", "perceptual", "moments", "grad_norm"} < set(losses[0])
    for name in ("loss", "pixels", "perceptual"):
        first, last = (sum(row[name] for row in part) for part in (losses[:5], losses[-5:]))
        assert last < 0.98 * first


def test_a_stopped_run_goes_on_with_the_same_bits(bench, trained, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, "key", "vae")
    stop_at_17(_trainer(bench, folder), monkeypatch)
    resumed = _train(bench, folder)
    one, two = (load_model(part.path.parent, "vae").state_dict() for part in (trained, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert curve(trained) == curve(resumed)
    (cost, *_) = [row for row in read_rows(resumed.metrics_path) if "peak_bytes" in row]
    assert min(cost["teacher_forward_s"], cost["student_forward_s"], cost["optimiser_s"]) > 0


def _cut(root: Path) -> None:
    (shard,) = root.glob("train-*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-9])


@pytest.mark.parametrize("harm", [shutil.rmtree, _cut])
def test_trajectories_that_were_lost_are_drawn_again(bench, tmp_path, harm):
    few_step = {"student_steps": 2, "teacher_steps": 4, "trajectories": 4, "validation_samples": 2}
    section = bench.section(decoder={**SETTINGS, "steps": 2}, few_step=few_step)
    kept = Trajectories(tmp_path / "trajectories", "key")
    draw_trajectories(section, bench.load(torch.device("cpu")), kept, Silent())
    files = {path.name: path.read_bytes() for path in kept.root.glob("*.safetensors")}
    harm(kept.root)
    folder = RunFolder(tmp_path / "decoder", "key", "vae")
    result = train_decoder(section, bench, kept, folder, Silent())
    assert {path.name: path.read_bytes() for path in kept.root.glob("*.safetensors")} == files
    rows = [row for row in read_rows(result.metrics_path) if "validation_psnr_db" in row]
    assert "validation_generated_psnr_db" in rows[-1]


def test_it_is_a_stock_vae_in_the_teachers_latent_space(bench, trained):
    vae, told = diffusers.AutoencoderKL.from_pretrained(trained.path, output_loading_info=True)
    assert not any(told.values())
    teacher = bench.teacher.vae
    assert sum(p.numel() for p in vae.parameters()) < 0.35 * sum(
        p.numel() for p in teacher.parameters()
    )
    for key in ("scaling_factor", "latent_channels", "sample_size", "force_upcast"):
        assert vae.config[key] == teacher.config[key]
    assert [p.name for p in trained.path.glob("*.safetensors")] == [
        "diffusion_pytorch_model.safetensors"
    ]


def test_a_tiny_one_is_a_stock_autoencoder_tiny(bench, tiny):
    vae, told = diffusers.AutoencoderTiny.from_pretrained(tiny.path, output_loading_info=True)
    assert not any(told.values())
    assert vae.config.decoder_block_out_channels == [16] * 3
    # Latents as the U-Net draws them are its own.
    latents = bench.validation.mean * bench.teacher.vae.config.scaling_factor
    with torch.no_grad():
        target = bench.teacher.vae.decode(bench.validation.mean).sample
        found = vae.decode(latents).sample
    (before, after) = (row for row in read_rows(tiny.metrics_path) if "validation_psnr_db" in row)
    psnr = psnr_db(found.clamp(-1, 1), target.clamp(-1, 1)).double().mean()
    assert float(psnr) == pytest.approx(after["validation_psnr_db"], abs=0.01)
    assert psnr > before["validation_psnr_db"] + 1


def test_a_student_with_it_exports_with_parity(bench, either, tmp_path):
    """Parity is the exporter's own gate, of the decoder and of the encoder."""
    teacher, student = bench.teacher.info.path, tmp_path / "student"
    save_student(teacher, bench.teacher.unet, student, either.components)
    stock = diffusers.DiffusionPipeline.from_pretrained(student)
    assert stock("cat", num_inference_steps=1).images[0].size == (32, 32)
    images = load_pipeline(student)("cat", num_inference_steps=1).images
    assert images[0].size == (32, 32)
    options = ExportOptions(("cat",), generation=Generation(steps=2, guidance_scale=3.0))
    OnnxExporter().export(student, tmp_path / "export", "fp32", Silent(), options)
    parts = read_manifest(tmp_path / "export").components
    assert {"vae_encoder", "vae_decoder"} < parts.keys()
    for name in ("vae_encoder", "vae_decoder"):
        parity = parts[name].parity
        assert parity.snr_db >= parity.floor_db > 40


def test_edgekd_draws_with_a_tiny_one(bench, tiny, tmp_path, run_cli):
    student = tmp_path / "student"
    save_student(bench.teacher.info.path, bench.teacher.unet, student, tiny.components)
    code, _, error = run_cli(
        *("generate", str(student), "a cat", "--steps", "1", "--out", str(tmp_path / "pictures"))
    )
    assert code == 0, error
    (picture,) = (tmp_path / "pictures").glob("*.png")
    with Image.open(picture) as drawn:
        assert drawn.size == (32, 32)
