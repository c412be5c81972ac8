"""Building and saving students: a full one is the teacher, and a folder is a stock pipeline."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.teachers import ODD
from torch.nn import ModuleList

from edgekd.diffusion.load import load_model
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import write_json
from edgekd.libraries import diffusers
from edgekd.reading import read_json
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student, save_student
from edgekd.student.resolve import evenly_spaced, full, preset

TEACHERS = ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "starter_teacher"]


def _load(path: Path) -> Any:
    return load_model(path, "unet")


@pytest.mark.parametrize("fixture", TEACHERS)
def test_a_full_student_is_the_teacher_bit_for_bit(fixture, request, predict):
    teacher = _load(request.getfixturevalue(fixture))
    student = build_student(teacher, full(teacher.config))
    expected, state = teacher.state_dict(), student.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    # Weights that want gradients are multiplied in another order, even without a tape.
    student.requires_grad_(False)
    assert torch.equal(predict(student), predict(teacher))
    assert {k: v for k, v in student.config.items() if not k.startswith("_")} == {
        k: v for k, v in teacher.config.items() if not k.startswith("_")
    }


SSD_1B = {
    **{key: value for key, value in ODD["as SSD-1B"].items() if key != "sample_size"},
    "sample_size": 8,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
}
XL = {
    **SSD_1B,
    "transformer_layers_per_block": (1, 2, 10),
    "reverse_transformer_layers_per_block": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
}


@pytest.mark.parametrize("name", ["full", "bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"])
def test_students_of_ssd_1b(name, make_unet, predict):
    """Depths of its own for each pair, and a mid block of one residual block."""
    teacher = make_unet(**SSD_1B).requires_grad_(False)
    student = build_student(teacher, preset(name, teacher.config))
    assert ("mid_block.resnets.0.conv1.weight" in student.state_dict()) is (
        name in ("full", "bk-sdm-base")
    )
    assert torch.isfinite(predict(student)).all()
    if name == "full":
        assert torch.equal(predict(student.requires_grad_(False)), predict(teacher))


def test_ssd_1b_of_xl_computes_what_xl_does_without_the_rest(make_unet, predict):
    teacher = make_unet(**XL)
    student = build_student(teacher, preset("ssd-1b", teacher.config))
    assert dict(student.config)["mid_block_type"] == "UNetMidBlock2D"
    with torch.no_grad():  # blocks that add nothing are as good as none
        for name, block in teacher.named_modules():
            removed = name.startswith(("mid_block.attentions.0", "mid_block.resnets.1"))
            if name.endswith(("transformer_blocks", "mid_block.attentions.0", "resnets.1")):
                kept = student.get_submodule(name) if not removed else None
                blocks = block if name.endswith("transformer_blocks") else [block]
                count = len(blocks)
                places = evenly_spaced(count, len(kept)) if isinstance(kept, ModuleList) else ()
                for index, one in enumerate(blocks):
                    if removed or (isinstance(kept, ModuleList) and index not in places):
                        silence(one)
    torch.testing.assert_close(predict(student), predict(teacher), atol=1e-5, rtol=1e-5)


def silence(block: torch.nn.Module) -> None:
    """Zero what a residual layer adds to its input."""
    for name, layer in block.named_modules():
        if name.endswith(("conv2", "to_out.0", "ff.net.2", "proj_out")):
            layer.weight.zero_()
            layer.bias.zero_()


def test_students_share_no_memory_with_the_teacher_and_train(tiny_teacher):
    teacher = _load(tiny_teacher)
    teacher.requires_grad_(False)
    student = build_student(teacher, preset("bk-sdm-small", teacher.config))
    assert all(p.requires_grad for p in student.parameters())
    assert not student.training
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_dtype_is_the_teachers_and_no_random_number_is_drawn(tiny_teacher):
    teacher = _load(tiny_teacher).half()
    stages = (*(StageArch(),) * 2, StageArch(width=48), StageArch(width=32))
    state = torch.random.get_rng_state()
    student = build_student(teacher, StudentArch(stages=stages))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {value.dtype for value in student.state_dict().values()} == {torch.float16}


@pytest.fixture
def saved(tiny_teacher, tmp_path) -> tuple[Path, Path]:
    """A teacher with a licence and pickled leftovers, and a student saved from it."""
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    (teacher / "LICENSE.md").write_text("terms")
    (teacher / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (teacher / "whole.ckpt").write_bytes(b"pickle")
    unet = _load(teacher)
    student = build_student(unet, preset("bk-sdm-tiny", unet.config))
    save_student(teacher, student, tmp_path / "out" / "student")
    return teacher, tmp_path / "out" / "student"


def test_other_components_are_copied_unchanged(saved):
    teacher, student = saved
    kept = {
        path.relative_to(teacher)
        for path in teacher.rglob("*")
        if path.is_file()
        and path.suffix not in (".bin", ".ckpt")
        and path.parent.name != "unet"
        and path.name != "model_index.json"
    }
    mine = {path.relative_to(student) for path in student.rglob("*") if path.is_file()}
    unet = {Path("unet/config.json"), Path("unet/diffusion_pytorch_model.safetensors")}
    assert mine == kept | unet | {Path("model_index.json"), Path(ARTIFACT_FILE)}
    for path in kept:
        assert (student / path).read_bytes() == (teacher / path).read_bytes()
    assert str(teacher) not in (student / "unet" / "config.json").read_text()
    assert [path.name for path in student.parent.iterdir()] == ["student"]


def test_a_safety_checker_that_is_only_listed_is_left_out(tiny_teacher, tmp_path):
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    index = read_json(teacher / "model_index.json")
    listed = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    write_json(teacher / "model_index.json", {**index, **listed, "requires_safety_checker": True})
    save_student(teacher, load_model(tiny_teacher, "unet"), tmp_path / "student")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    assert pipeline.safety_checker is None
    assert not pipeline.config.requires_safety_checker


@pytest.mark.parametrize(
    ("index", "rule"),
    [
        (None, "must have `vae`"),
        ({"unet": ["a", "b"], "../x": ["a", "b"]}, "beside it"),
        ([], "must list a `unet`"),
    ],
)
def test_nothing_is_left_behind_by_a_failed_save(index, rule, tiny_teacher, tmp_path):
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    shutil.rmtree(teacher / "vae")
    if index is not None:
        write_json(teacher / "model_index.json", index)
    with pytest.raises(InputError, match=rule):
        save_student(teacher, _load(teacher), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
