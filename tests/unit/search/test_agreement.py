"""The calibration set is fixed and stratified; the damage follows its equation."""

import math
from types import SimpleNamespace

import pytest
import torch

from edgekd.data.cache import CachedBatch
from edgekd.diffusion.noise_schedule import NoiseSchedule, build_scheduler, read_schedule
from edgekd.errors import InputError
from edgekd.search.agreement import (
    WORST_ERROR,
    Calibration,
    CalibrationSettings,
    UNetInputs,
    make_calibration,
    relative_error,
    velocity_damage,
)

TEACHER = SimpleNamespace(
    vae=SimpleNamespace(config={"scaling_factor": 0.5}),
    scheduler=build_scheduler(),
    info=SimpleNamespace(family="sd1"),
)


class Samples:
    """Sample i has the mean i, no variance, and the text i."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    @property
    def buckets(self):
        return [range(self.count)]

    def batch(self, indices):
        mean = indices.float()[:, None, None, None].expand(-1, 4, 2, 2)
        text = indices.float()[:, None, None].expand(-1, 3, 8)
        sizes = torch.zeros(len(indices), 6)
        return CachedBatch(mean, torch.full_like(mean, -80.0), text, None, sizes, [""] * len(text))


def calibrate(count=20, **settings):
    return make_calibration(TEACHER, Samples(count), CalibrationSettings(**settings), "data")


def test_every_level_has_equally_many_samples_each_drawn_once():
    calibration = calibrate(samples=8, timesteps=4)
    assert calibration.inputs.timesteps.tolist() == [125, 375, 625, 875] * 2
    text = calibration.inputs.encoder_hidden_states[:, 0, 0].tolist()
    assert len(set(text)) == 8
    assert text != sorted(text)
    assert [len(targets) for _, targets in calibration.batches()] == [8]


def test_latents_are_those_samples_with_their_noise():
    calibration = calibrate(samples=8, timesteps=4)
    inputs, schedule = calibration.inputs, read_schedule(TEACHER.scheduler)
    clean = 0.5 * inputs.encoder_hidden_states[:, :1, :1, None].expand(-1, 4, 2, 2)
    none = schedule.add_noise(clean, torch.zeros_like(clean), inputs.timesteps)
    sigma = (1 - schedule.alphas_cumprod[inputs.timesteps]).sqrt()[:, None, None, None]
    noise = (inputs.latents - none) / sigma
    assert noise.std() == pytest.approx(1, abs=0.2)
    assert torch.allclose(calibration.targets, noise, atol=1e-4)


def test_a_set_follows_from_its_seed_and_size():
    one, again, other = calibrate(), calibrate(), calibrate(seed=1)
    assert torch.equal(one.inputs.latents, again.inputs.latents)
    assert one.key == again.key
    assert not torch.equal(one.inputs.latents, other.inputs.latents)
    assert one.key != other.key
    assert calibrate(samples=8).key != one.key


def test_importance_is_that_of_the_teachers_own_task():
    """A U-Net of one scale w predicts w x: the change of its loss is `|w dL/dw|`."""

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, latents, timesteps, text, added_cond_kwargs):
            return (self.w * latents,)

    calibration = calibrate(samples=8, batch_size=5)
    expected = 0.0
    for inputs, targets in calibration.batches():
        gradient = 2 * ((0.5 * inputs.latents - targets) * inputs.latents).mean()
        expected += abs(0.5 * float(gradient))
    assert calibration.importance(Scale())["w"] == pytest.approx(expected, rel=1e-4)


def test_few_samples_are_taken_again_and_none_are_refused():
    assert len(calibrate(3, samples=8).inputs.latents) == 8
    with pytest.raises(InputError, match="needs a sample of the training split"):
        calibrate(0)
    with pytest.raises(InputError, match="`timesteps <= samples` must hold"):
        calibrate(samples=4, timesteps=8)


def test_relative_error_is_power_over_power():
    teacher = torch.tensor([3.0, 4.0])
    assert relative_error(teacher, teacher) == 0
    assert relative_error(torch.zeros(2), teacher) == 1
    assert relative_error(torch.tensor([3.0, 5.0]), teacher) == pytest.approx(1 / 25)


def test_damage_is_the_mean_of_levels_in_logarithms():
    teacher = torch.ones(4, 1, 1, 1)
    student = torch.tensor([0.0, 1.0, 3.0, 3.0]).reshape(4, 1, 1, 1)
    timesteps = torch.tensor([10, 10, 900, 900])
    expected = (math.log(1 + 0.5) + math.log(1 + 4)) / 2
    assert velocity_damage(student, teacher, timesteps) == pytest.approx(expected)
    student[0] = math.nan
    expected = (math.log(1 + WORST_ERROR) + math.log(1 + 4)) / 2
    assert velocity_damage(student, teacher, timesteps) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_an_error_counts_as_one_of_v_whatever_the_teacher_predicts(kind):
    """`v_s - v_t = (noise_s - noise_t) / sqrt(a_t)` at fixed latents: large t count."""
    schedule = NoiseSchedule(torch.tensor([0.9, 0.01]), kind)
    latents = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([0, 1])
    inputs = UNetInputs(latents, timesteps, torch.zeros(2, 1, 1), None)
    calibration = Calibration("", inputs, latents, schedule, 2)
    teacher, student = torch.full_like(latents, 0.5), torch.full_like(latents, 0.6)
    velocity, scale = teacher, torch.ones(2, 1, 1, 1)
    if kind == "epsilon":
        alphas = schedule.alphas_cumprod[:, None, None, None]
        scale = alphas.sqrt()
        velocity = (teacher - (1 - alphas).sqrt() * latents) / scale
    errors = (0.1 / scale).square() * 4 / velocity.square().sum((1, 2, 3), keepdim=True)
    expected = float(errors.log1p().mean())
    assert calibration.damage(student, teacher) == pytest.approx(expected, rel=1e-4)
    assert calibration.damage(teacher, teacher) == 0
