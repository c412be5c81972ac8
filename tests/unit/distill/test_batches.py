from dataclasses import replace
from typing import Any

import torch

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batches, drop_captions
from edgekd.training.draws import BatchPlan, draw, sample_indices


def _batches(bench: Any) -> Batches:
    schedule = read_schedule(bench.teacher.scheduler)
    return Batches(bench.train, bench.teacher.info, bench.teacher.vae.config, schedule)


def test_training_batch_is_made_of_its_positions(bench):
    batches, plan = _batches(bench), BatchPlan(4)
    batch = batches.training(7, range(8, 12), plan, 0.0)
    drawn = draw(7, range(8, 12), 4, 1000, 0.0, (4, 8, 8))
    rows = bench.train.batch(sample_indices(7, range(8, 12), len(bench.train)))
    latents = (rows.mean + torch.exp(rows.logvar / 2) * drawn.vae_noise) * 0.5  # scaling_factor
    expected = batches.schedule.add_noise(latents, drawn.noise, drawn.timesteps)
    assert torch.allclose(batch.noisy_latents, expected, atol=1e-6)
    assert torch.equal(batch.timesteps, drawn.timesteps)
    assert torch.equal(batch.target, drawn.noise)
    assert torch.equal(batch.encoder_hidden_states, rows.encoder_hidden_states)
    assert batch.added is None


def test_the_batches_of_a_step_choose_alike(bench):
    """Whether it is one batch, micro-batches, or those of several processes."""
    batches = _batches(bench)
    plan = BatchPlan(2, accumulation=2)
    of_step = [
        batches.training(7, range(first, first + 2), plan, 0.0).choice for first in (8, 10, 12)
    ]
    assert of_step[0] == of_step[1] != of_step[2]
    assert of_step[0] == batches.training(7, range(8, 12), BatchPlan(4), 0.0).choice
    assert batches.training(7, range(8, 12), BatchPlan(4), 0.0).to(torch.device("cpu")).choice


def test_dropped_captions_are_the_empty_caption(bench):
    batch = _batches(bench).training(0, range(64), BatchPlan(64), 0.5)
    empty, _ = bench.train.empty()
    kept = draw(0, range(64), 64, 1000, 0.5, (4, 8, 8)).keep_caption
    dropped = (batch.encoder_hidden_states == empty).flatten(1).all(dim=1)
    assert torch.equal(dropped, ~kept)


def test_pooled_text_is_dropped_with_its_caption():
    keep = torch.tensor([True, False])
    states, pooled = drop_captions(
        torch.ones(2, 3, 4), torch.ones(2, 5), (torch.zeros(1, 3, 4), torch.zeros(1, 5)), keep
    )
    assert states.sum(dim=(1, 2)).tolist() == [12.0, 0.0]
    assert pooled.sum(dim=1).tolist() == [5.0, 0.0]


def test_sdxl_gets_its_added_conditions(make_bench, tiny_sdxl_teacher):
    bench = make_bench(tiny_sdxl_teacher)
    batch = _batches(bench).training(0, range(2), BatchPlan(2), 0.0)
    assert batch.added["time_ids"].shape == (2, 6)
    assert batch.added["text_embeds"].shape == (2, 32)


def test_validation_is_fixed_and_stratified(bench):
    batches = _batches(bench)
    whole, cut = batches.validation(10, 10), batches.validation(10, 3)
    assert torch.equal(whole[0].noisy_latents, torch.cat([b.noisy_latents for b in cut]))
    timesteps = torch.cat([b.timesteps for b in cut])
    assert timesteps.sort().values.tolist() == list(range(50, 1000, 100))
    assert timesteps.tolist() != sorted(timesteps.tolist())


def test_validation_takes_no_more_than_there_is(bench):
    assert sum(len(b.timesteps) for b in _batches(bench).validation(10_000, 5)) == 12


def test_timesteps_may_be_every_twentieth(bench):
    batches = replace(_batches(bench), skip=20)
    batch = batches.training(0, range(50), BatchPlan(50), 0.0)
    # One of each: they are spread evenly over a step's samples.
    assert batch.timesteps.sort().values.tolist() == list(range(19, 1000, 20))
    latents = batches.schedule.predicted(batch.noisy_latents, batch.target, batch.timesteps)[0]
    again = batches.schedule.add_noise(latents, batch.target, batch.timesteps)
    torch.testing.assert_close(again, batch.noisy_latents, atol=1e-5, rtol=1e-5)
    held_out = batches.validation(5, 5)[0].timesteps
    assert held_out.sort().values.tolist() == [119, 319, 519, 719, 919]
