"""A pipeline in stable-diffusion.cpp's one file, and back."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.checkpoints import SIZE, make_pipeline, to_checkpoint
from fixtures.unets import FOUR, _make_unet, _predict, make_unet
from safetensors.torch import load_file, save_file

from edgekd.diffusion.components import load_tokenizer
from edgekd.diffusion.load import load_model
from edgekd.diffusion.single_file.checkpoint import read_checkpoint
from edgekd.diffusion.single_file.importer import ImportChoices, import_checkpoint
from edgekd.diffusion.validate import inspect_folder
from edgekd.errors import GateError, InputError
from edgekd.export.formats import FormatRequest
from edgekd.export.protocol import Generation
from edgekd.export.registry import get_exporter
from edgekd.export.sdcpp import writer
from edgekd.export.sdcpp.expressible import (
    check_scheduler,
    check_text,
    check_tokenizer,
    check_unet,
    check_vae,
    variants,
)
from edgekd.export.sdcpp.fixed_guidance import fix_guidance
from edgekd.export.sdcpp.layout import unet_name
from edgekd.export.sdcpp.writer import SdCpp, command, original_layout
from edgekd.jobs.export import ExportRequest, export_run
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.runtime.conditions import guidance_conditions
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student, save_student
from edgekd.student.config import to_unet_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import preset
from edgekd.target import load_target

__all__ = ["make_unet"]
FAMILIES = ["sd1", "sd2", "sdxl"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny pipeline of each family; that of Stable Diffusion 2 predicts velocity."""
    base = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        predicts = "v_prediction" if family == "sd2" else "epsilon"
        make_pipeline(family, predicts).save_pretrained(base / family)
    return {family: base / family for family in FAMILIES}


def request(source: Path, out: Path, precision: str = "fp32") -> FormatRequest:
    return FormatRequest(source, out, precision, (), Generation(4, 2.0))


@pytest.fixture
def any_size(monkeypatch) -> None:
    """Tiny models stand for those of the published size."""
    monkeypatch.setattr(writer, "check_expressible", lambda info: ())


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_those_of_the_authors_layout(folders, family):
    """The fixtures have the layout by other means."""
    source = folders[family]
    expected = to_checkpoint(make_pipeline(family), family)
    parts = original_layout(inspect_folder(source), source, 1.0)
    found = {f"{prefix}{name}": value for prefix, part in parts for name, value in part.items()}
    # What the fixture adds: a layer and parameters that no pipeline reads.
    unread = {name for name in expected if name not in found}
    assert all(
        name.endswith(("position_ids", "logit_scale", "model.text_projection"))
        or ".resblocks.1." in name
        for name in unread
    )
    assert len(found) > 100
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


_DOWN, _UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
# Three levels: as few as have a number that a pruned student leaves out on both ways.
DEEP = {
    "sd1": {
        "block_out_channels": (32, 64, 64),
        "down_block_types": (_DOWN, _DOWN, _DOWN),
        "up_block_types": (_UP, _UP, _UP),
        "attention_head_dim": 8,
        "cross_attention_dim": 64,
    },
    "sdxl": {
        "block_out_channels": (64, 64, 128),
        "down_block_types": ("DownBlock2D", _DOWN, _DOWN),
        "up_block_types": (_UP, _UP, "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (1, 1, 2),
        "use_linear_projection": True,
        "cross_attention_dim": 128,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 16,
        "projection_class_embeddings_input_dim": 6 * 16 + 48,
    },
}
# BK-SDM's pairs on all three levels: what its Tiny is of a teacher with four.
TINY = StudentArch(stages=(StageArch(down=(0,), up=(0, 2)),) * 3, mid=False)


@pytest.fixture(scope="module")
def students(folders, tmp_path_factory) -> dict[str, Path]:
    """Folders of students of three levels, and of the whole teachers."""
    base = tmp_path_factory.mktemp("students")
    found = dict(folders)
    for name, family in (("tiny", "sd1"), ("ssd-1b", "sdxl")):
        unet = make_unet_of(DEEP[family])
        arch = TINY if name == "tiny" else preset("ssd-1b", unet.config)
        save_student(folders[family], build_student(unet, arch), base / name)
        found[name] = base / name
    return found


def make_unet_of(config: dict[str, Any]) -> Any:
    return _make_unet(0, sample_size=SIZE // 2, layers_per_block=2, **config)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("sd1", "fp16"), ("sd2", "fp32"), ("tiny", "fp32"), ("ssd-1b", "fp32")],
)
def test_a_file_reads_back_as_the_pipeline(students, name, precision, tmp_path, any_size):
    source = students[name]
    done = SdCpp().write(request(source, tmp_path / "out", precision), Silent())
    assert done.bytes.keys() == {"model.safetensors"}
    file = done.path / "model.safetensors"
    velocity = [fact for fact in done.facts if "`--prediction v`" in fact]
    assert bool(velocity) == (name == "sd2")
    assert "v_pred" not in load_file(file)  # no tensor that its loader does not know
    if name in FAMILIES:
        return
    # Once more by hand: numbers that a pruned U-Net leaves out, and what it computes.
    facts = import_checkpoint(read_checkpoint(file), tmp_path / "again", ImportChoices())
    assert (facts.size, facts.unused) == (SIZE, ())
    inspect_folder(tmp_path / "again")
    ours, theirs = load_model(source, "unet"), load_model(tmp_path / "again", "unet")
    assert torch.equal(_predict(theirs), _predict(ours))
    numbers = {int(key.split(".")[3]) for key in load_file(file) if ".output_blocks." in key}
    assert numbers == ({0, 1, 2, 3, 4, 5, 6, 7} if name == "tiny" else set(numbers))


def test_numbers_of_a_pruned_unet_are_those_of_stable_diffusion_cpp():
    """Its tiny U-Net counts on after the one layer of a level: `unet.hpp`."""
    attends = (True, True, True)
    for theirs, ours in {
        "down_blocks.1.resnets.0.conv1.weight": "input_blocks.4.0.in_layers.2.weight",
        "down_blocks.1.downsamplers.0.conv.weight": "input_blocks.6.0.op.weight",
        "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.2.1.conv.bias",
        "up_blocks.1.upsamplers.0.conv.bias": "output_blocks.5.2.conv.bias",
        "up_blocks.2.attentions.1.norm.weight": "output_blocks.7.1.norm.weight",
    }.items():
        assert unet_name(theirs, 1, attends) == ours
    whole = unet_name("up_blocks.0.upsamplers.0.conv.bias", 2, attends)
    assert whole == "output_blocks.2.2.conv.bias"


def test_a_damaged_file_is_no_export(folders, tmp_path, any_size, monkeypatch):
    """The file is read back: another number, or a name that is lost, is found."""
    good = writer.unet_name
    swapped = {"in_layers.2": "out_layers.3"}

    def wrong(name: str, *arguments: Any) -> str:
        found = good(name, *arguments)
        if name.startswith("mid_block.resnets.0.conv"):
            a, b = next(iter(swapped.items()))
            found = found.replace(a, "?").replace(b, a).replace("?", b)
        return found

    monkeypatch.setattr(writer, "unet_name", wrong)
    with pytest.raises(GateError, match="the unet must read back as it is"):
        SdCpp().write(request(folders["sd1"], tmp_path / "out"), Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_guidance_is_what_the_unet_computes_with_it(make_unet):
    unet = make_unet(**FOUR, time_cond_proj_dim=6).requires_grad_(False)
    state = fix_guidance(unet.state_dict(), 3.5)
    plain = make_unet(**FOUR).requires_grad_(False)
    plain.load_state_dict(state, strict=True)
    row = guidance_conditions(3.5, 6, 2)["timestep_cond"]
    inputs = (torch.ones(2, 4, 8, 8), torch.tensor([10, 700]), torch.ones(2, 5, 8))
    expected = unet(*inputs, timestep_cond=torch.from_numpy(row)).sample
    torch.testing.assert_close(plain(*inputs).sample, expected)
    other = unet(*inputs, timestep_cond=torch.from_numpy(0 * row)).sample
    assert not torch.allclose(plain(*inputs).sample, other, atol=1e-3)
    assert fix_guidance(plain.state_dict(), 1.0).keys() == plain.state_dict().keys()


def test_a_tiny_autoencoders_own_file_is_read_back(tmp_path, monkeypatch, tiny_lcm_student):
    """Its tensors are in no checkpoint, so that the reader takes the VAE of the pipeline."""
    file = tmp_path / "out" / "model.safetensors"
    file.parent.mkdir()
    state = load_model(tiny_lcm_student, "vae").state_dict()

    def read(checkpoint, again, choices):
        shutil.copytree(choices.vae, again / "vae")

    monkeypatch.setattr(writer, "read_checkpoint", lambda path: None)
    monkeypatch.setattr(writer, "import_checkpoint", read)
    asked = replace(request(tiny_lcm_student, file.parent), precision="fp32")
    save_file(state, file.with_name("taesd.safetensors"))
    writer.prove(file, tiny_lcm_student, asked)
    shutil.rmtree(file.parent / ".work")
    name = sorted(state)[0]
    save_file({**state, name: state[name] + 1}, file.with_name("taesd.safetensors"))
    with pytest.raises(
        GateError, match=f"the vae must read back as it is, but got another `{name}`"
    ):
        writer.prove(file, tiny_lcm_student, asked)


def test_a_tiny_autoencoder_is_a_file_of_its_own(tiny_lcm_student, tmp_path, any_size, monkeypatch):
    """With a tokenizer and text encoder of CLIP's form; the U-Net's guidance is fixed."""
    monkeypatch.setattr(writer, "prove", lambda *_: None)  # the importer wants CLIP's vocabulary
    done = SdCpp().write(request(tiny_lcm_student, tmp_path / "out"), Silent())
    assert done.bytes.keys() == {"model.safetensors", "taesd.safetensors"}
    assert load_file(done.path / "taesd.safetensors").keys() == set(
        load_model(tiny_lcm_student, "vae").state_dict()
    )
    names = load_file(done.path / "model.safetensors")
    assert not any(name.startswith("first_stage_model.") or "cond_proj" in name for name in names)
    card = (done.path / "README.md").read_text()
    assert "--cfg-scale 1 --sampling-method lcm --rng cpu --seed 0 --taesd taesd.safe" in card
    assert any("guidance 2 is part of the weights" in fact for fact in done.facts)


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("EulerDiscrete", {}, "--sampling-method euler --rng cpu"),
        ("DDIM", {"timestep_spacing": "trailing"}, "euler --scheduler simple --rng"),
        ("DPMSolverMultistep", {"use_karras_sigmas": True}, "dpm++2m --scheduler karras --rng"),
        ("DPMSolverMultistep", {"solver_order": 1}, "--sampling-method euler --rng"),
        ("EulerDiscrete", {"use_exponential_sigmas": True}, "euler --scheduler exponential"),
        ("LCM", {"timestep_spacing": "trailing"}, "--sampling-method lcm --rng cpu"),
    ],
)
def test_the_command_has_the_noise_levels_of_the_scheduler(folders, tmp_path, name, config, said):
    scheduler = getattr(diffusers, f"{name}Scheduler")(**config)
    asked = request(folders["sd1"], tmp_path)
    assert said in command(inspect_folder(folders["sd1"]), asked, scheduler)


@pytest.mark.parametrize("family", FAMILIES)
def test_published_models_and_their_students_are_known(family):
    config = ARCHITECTURES[{"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}[family]]["unet"]
    full, small = variants(family), "ssd-1b" if family == "sdxl" else "bk-sdm-tiny"
    assert check_unet(config, family) == next(iter(full))
    student = to_unet_config(preset(small, config), config)
    assert check_unet(student, family) in ("SSD-1B", "BK-SDM tiny")
    for other in ("bk-sdm-base", "bk-sdm-small"):
        with pytest.raises(InputError, match=r"one that stable-diffusion.cpp builds"):
            check_unet(to_unet_config(preset(other, config), config), family)


PARTS = ARCHITECTURES["sd15"]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: check_unet({**PARTS["unet"], "attention_head_dim": 4}, "sd1"), "heads [4"),
        (lambda: check_unet({**PARTS["unet"], "norm_num_groups": 16}, "sd1"), "SD1, BK-SDM tiny"),
        (lambda: check_unet(PARTS["unet"], "sd2"), "SD2, BK-SDM tiny"),
        (lambda: check_text("text_encoder", {"hidden_size": 512}, "sd1"), "`hidden_size` 768"),
        (lambda: check_tokenizer("tokenizer", {"a": 0}), "CLIP's vocabulary"),
        (lambda: check_vae({"norm_num_groups": 16}, "sd1", "SD1"), "`norm_num_groups` 32"),
        (
            lambda: check_vae({"mid_block_add_attention": False}, "sd1", "SD1"),
            "mid_block_add_attention",
        ),
        (lambda: check_vae({"scaling_factor": 0.5}, "sdxl", "SDXL"), "`scaling_factor` 0.13025"),
        (
            lambda: check_vae(
                {"_class_name": "AutoencoderTiny", "latent_channels": 16}, "sd1", "SD1"
            ),
            "as TAESD: `latent_channels` 4, but got 16",
        ),
        (lambda: check_vae(PARTS["vae"], "sd1", "SDXS-512"), "SDXS-512, whose VAE must be an Auto"),
        (lambda: check_scheduler({"beta_schedule": "linear"}), "`beta_schedule` scaled_linear"),
        (lambda: check_scheduler({"rescale_betas_zero_snr": True}), "rescale_betas_zero_snr"),
        (lambda: check_scheduler({"prediction_type": "sample"}), "one of epsilon, v_prediction"),
    ],
)
def test_what_it_cannot_express_is_said(check, said):
    with pytest.raises(InputError) as error:
        check()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_published_is_expressible(folders):
    for family, name in {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}.items():
        parts = ARCHITECTURES[name]
        check_vae(parts["vae"], family, check_unet(parts["unet"], family))
        for text in (name for name in parts if name.startswith("text_encoder")):
            check_text(text, parts[text], family)
        tokenizer = load_tokenizer(folders[family] / "tokenizer")
        check_tokenizer("tokenizer", tokenizer.get_vocab())
    for unet in ("SD1", "SDXS-512"):
        check_vae({"_class_name": "AutoencoderTiny", "latent_channels": 4}, "sd1", unet)


@pytest.mark.parametrize("option", [{"tune": True}, {"min_psnr_db": 30.0}, {"prompts": ["a"]}])
def test_options_of_a_runtime_are_refused(option, folders, tmp_path):
    asked = ExportRequest(folders["sd1"], load_target("sdcpp"), tmp_path / "out", **option)
    with pytest.raises(InputError, match="go with a target that edgekd draws with"):
        export_run(asked, Silent())
    with pytest.raises(InputError, match=r"must be one that stable-diffusion.cpp builds"):
        export_run(replace(asked, tune=False, min_psnr_db=None, prompts=[]), Silent())
    with pytest.raises(InputError, match="is a file format"):
        get_exporter("sdcpp")
    assert list(tmp_path.iterdir()) == []
