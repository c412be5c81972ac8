"""Folders as other tools leave them, which hold all that a pipeline needs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.diffusion.load import load_pipeline, load_teacher
from edgekd.diffusion.validate import inspect_folder

WEIGHTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
Change = Callable[[Path], object]


def _variant(name: str, dtype: torch.dtype) -> Change:
    def change(root: Path) -> None:
        for stem in WEIGHTS:
            file = root / f"{stem}.safetensors"
            save_file({k: x.to(dtype) for k, x in load_file(file).items()}, file)
            file.rename(root / f"{stem}.{name}.safetensors")

    return change


def _clip_extras(root: Path) -> None:
    file = root / "text_encoder" / "model.safetensors"
    extras = {"text_projection.weight": torch.ones(32, 32), "logit_scale": torch.tensor(4.6)}
    save_file({**load_file(file), **extras}, file)


def _pipeline_class(name: str, **more: object) -> Change:
    def change(root: Path) -> None:
        file = root / "model_index.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": name, **more}))

    return change


def _no_tokenizer_config(root: Path) -> None:
    (root / "tokenizer" / "tokenizer_config.json").unlink()


IMG2IMG = _pipeline_class("StableDiffusionImg2ImgPipeline")
XL_IMG2IMG = _pipeline_class("StableDiffusionXLImg2ImgPipeline", requires_aesthetics_score=False)
CASES = {
    "bf16": ("tiny_teacher", _variant("bf16", torch.bfloat16), 0.05),
    "fp16": ("tiny_teacher", _variant("fp16", torch.float16), 0.01),
    "clip-extras": ("tiny_teacher", _clip_extras, 0),
    "img2img": ("tiny_teacher", IMG2IMG, 0),
    "img2img-xl": ("tiny_sdxl_teacher", XL_IMG2IMG, 0),
    "no-tokenizer-config": ("tiny_teacher", _no_tokenizer_config, 0),
}


@pytest.fixture(params=CASES)
def case(request, tmp_path) -> tuple[Path, Path, float]:
    """The plain folder, the odd one, and how far rounding may move a weight."""
    fixture, change, tolerance = CASES[request.param]
    plain = request.getfixturevalue(fixture)
    shutil.copytree(plain, tmp_path / "odd")
    change(tmp_path / "odd")
    return plain, tmp_path / "odd", tolerance


def test_it_is_the_same_pipeline(case):
    plain, odd, tolerance = case
    expected, found = load_teacher(plain), load_teacher(odd)
    assert found.info.pipeline_class == expected.info.pipeline_class
    assert found.info.text_tokens == expected.info.text_tokens
    for name in ("unet", "vae"):
        theirs, ours = (getattr(one, name).state_dict() for one in (expected, found))
        for key in theirs:
            torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=tolerance)
    prompt = "a red apple"
    first, second = (one.tokenizers[0](prompt).input_ids for one in (expected, found))
    assert first == second


def test_a_student_of_it_loads_in_stock_diffusers(case, tmp_path):
    from edgekd.libraries import diffusers
    from edgekd.student.build import save_student

    plain, odd, _ = case
    save_student(odd, load_pipeline(odd).unet, tmp_path / "student")
    student = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "student", torch_dtype=None)
    assert type(student).__name__ == inspect_folder(plain).pipeline_class
    assert student.tokenizer.model_max_length == inspect_folder(plain).text_tokens
