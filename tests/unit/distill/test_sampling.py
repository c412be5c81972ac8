from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.distill.sampling import (
    SampleSheet,
    choose_prompts,
    grid,
    save_png,
    spread_captions,
)
from edgekd.student.build import DrawingPlan, build_student


class Captions:
    def __init__(self, captions: list[str]) -> None:
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def captions(self, i: int) -> str:
        return self._captions[i]


def test_prompts_are_different_and_spread():
    latents: Any = Captions([f"caption {i // 2}" for i in range(100)])
    prompts = spread_captions(latents, 5)
    assert prompts == [f"caption {i}" for i in (0, 10, 20, 30, 40)]
    few: Any = Captions(["a", "", "a", "b"])
    assert sorted(spread_captions(few, 3)) == ["a", "b"]


def test_prompts_of_the_recipe_are_taken_as_they_are(bench):
    assert choose_prompts(["x", "x"], bench.train) == ["x", "x"]
    assert len(choose_prompts([], bench.train)) == 3


def test_grid_places_rows_and_columns():
    pictures = [[np.full((2, 3, 3), 10 * r + c, np.uint8) for c in range(2)] for r in range(2)]
    sheet = grid(pictures)
    assert sheet.shape == (2 * 2 + 4, 2 * 3 + 4, 3)
    assert sheet[0, 0, 0] == 0
    assert sheet[0, -1, 0] == 1
    assert sheet[-1, 0, 0] == 10
    assert sheet[3, 4, 0] == 255


@pytest.mark.parametrize("share", [1, 2])
def test_rows_share_their_noise(share, bench, tmp_path):
    from edgekd.student.resolve import full

    teacher = bench.teacher
    latent_size = teacher.info.latent_size // share
    before = torch.get_rng_state()
    prompts = ["a red apple", "a car"]
    session = DrawingPlan(teacher.scheduler, steps=2, guidance_scale=3.0)
    sheet = SampleSheet(teacher, session, session, prompts, latent_size, seed=0)
    same = sheet.draw(build_student(teacher.unet, full(dict(teacher.unet.config))))
    size = latent_size * teacher.info.vae_scale_factor
    assert same.shape[0] == 2 * size + 4
    # A student equal to the teacher draws the same pictures from the same noise.
    assert np.array_equal(same[:size], same[-size:])
    other = sheet.draw(build_student(teacher.unet, bench.arch()))
    assert np.array_equal(other[:size], same[:size])
    assert not np.array_equal(other[-size:], same[-size:])
    assert torch.equal(torch.get_rng_state(), before)
    save_png(other, tmp_path / "samples" / "sheet.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "samples" / "sheet.png")), other)
