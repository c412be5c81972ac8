"""A random pipeline in memory is the one that would be saved."""

from dataclasses import replace

import torch

from edgekd.benchmark.random_pipeline import make_pipeline, random_info, random_teacher
from edgekd.diffusion.load import load_teacher
from edgekd.diffusion.validate import inspect_teacher


def test_in_memory_it_is_what_is_saved(tiny_architecture, tmp_path):
    make_pipeline(tiny_architecture, 3, tmp_path / "saved")
    info = inspect_teacher(tmp_path / "saved")
    assert random_info(tiny_architecture) == replace(info, path=random_info("sd15").path, files=())
    saved = load_teacher(tmp_path / "saved")
    made = random_teacher(tiny_architecture, info.latent_size, 3, "cpu")
    for one, other in (
        (saved.unet, made.unet),
        (saved.vae, made.vae),
        *zip(saved.text_encoders, made.text_encoders, strict=True),
    ):
        assert not other.training
        theirs = other.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())
    assert not any(p.requires_grad for p in made.unet.parameters())


def test_another_size_is_its_own(tiny_architecture):
    teacher = random_teacher(tiny_architecture, 16, 0, "cpu")
    assert (teacher.info.latent_size, teacher.unet.config.sample_size) == (16, 16)
    assert teacher.info.resolution == 32
