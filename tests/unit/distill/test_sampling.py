from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.benchmark.training_sheets import training_sheet
from edgekd.diffusion import load
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
    once = replace(session, steps=1)
    sheet = SampleSheet(teacher, session, [session, once], prompts, latent_size, seed=0)
    drawn = sheet.draw(build_student(teacher.unet, full(dict(teacher.unet.config))))
    assert drawn.rows == ("teacher, 2 steps", "student, 2 steps", "student, 1 step")
    same = drawn.picture
    size = latent_size * teacher.info.vae_scale_factor
    second = slice(size + 4, 2 * size + 4)
    assert same.shape[0] == second.stop + size + 4
    # A student equal to the teacher draws the same pictures from the same noise.
    assert np.array_equal(same[:size], same[second])
    assert not np.array_equal(same[:size], same[-size:])
    changed = sheet.draw(build_student(teacher.unet, bench.arch()))
    other = changed.picture
    assert np.array_equal(other[:size], same[:size])
    assert not np.array_equal(other[second], same[second])
    assert torch.equal(torch.get_rng_state(), before)
    save_png(changed, tmp_path / "samples" / "step-00000001.png")
    found = training_sheet("few_step", tmp_path / "metrics.jsonl")
    assert found is not None
    assert (found.phase, tuple(found.rows)) == ("few_step", changed.rows)
    assert np.array_equal(found.picture, other)
    short = sheet.draw(build_student(teacher.unet, bench.arch()), rows=1)
    assert short.rows == drawn.rows[:2]
    assert short.pitch == drawn.pitch == size + 4


def test_large_pictures_are_decoded_one_by_one(bench, monkeypatch):
    teacher, sizes = bench.teacher, []
    decode = teacher.vae._decode

    def counted(latents, **options):
        sizes.append(len(latents))
        return decode(latents, **options)

    monkeypatch.setattr(teacher.vae, "_decode", counted)
    session = DrawingPlan(teacher.scheduler, steps=1, guidance_scale=1.0)
    for most in (256, 7):
        monkeypatch.setattr(load, "_DECODED_TOGETHER", most)
        sheet = SampleSheet(teacher, session, [session], ["a red apple", "a car"], 4, seed=0)
        sheet.draw(teacher.unet)
    teacher.vae.disable_slicing()
    assert sizes == [2, 2, 1, 1, 1, 1]
