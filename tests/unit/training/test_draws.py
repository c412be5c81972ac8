import math

import pytest
import torch

from edgekd.training.draws import (
    BLOCK,
    BatchPlan,
    bucketed_indices,
    draw,
    sample_indices,
    step_choice,
    step_positions,
)

SHAPE = (4, 2, 2)


def test_every_epoch_is_a_permutation():
    indices = sample_indices(0, range(20), 10).tolist()
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10] != indices[10:]
    assert sample_indices(1, range(10), 10).tolist() != indices[:10]


@pytest.mark.parametrize("count", [1000, 1024, 5000])
def test_a_window_keeps_reads_near_each_other(count):
    window = 700
    indices = sample_indices(3, range(2 * count), count, window)
    for epoch in indices.split(count):
        assert sorted(epoch.tolist()) == list(range(count))
        for part in epoch.split(window)[:-1]:
            # A window begins and ends within a block, and the short last block is among them.
            assert len((part // BLOCK).unique()) <= window // BLOCK + 3
            assert part.diff().abs().float().median() > 50
    assert indices[:count].tolist() != indices[count:].tolist()
    # No state: what is asked for later is the same.
    assert sample_indices(3, [count + 8], count, window) == indices[count + 8]
    whole = sample_indices(3, range(count), count)
    assert torch.equal(sample_indices(3, range(count), count, count), whole)


def test_processes_and_micro_batches_share_out_the_step():
    plan = BatchPlan(batch_size=2, accumulation=3, processes=2)
    positions = [p for m in range(3) for r in range(2) for p in step_positions(5, m, r, plan)]
    assert positions == list(range(60, 72))


def test_draws_depend_on_seed_and_position_only():
    together = draw(3, range(8), 8, 1000, 0.5, SHAPE)
    apart = [draw(3, [p], 8, 1000, 0.5, SHAPE) for p in range(8)]
    for name in ("timesteps", "keep_caption", "noise", "vae_noise"):
        alone = torch.cat([getattr(d, name) for d in apart])
        assert torch.equal(getattr(together, name), alone)
    assert not torch.equal(draw(4, range(8), 8, 1000, 0.5, SHAPE).noise, together.noise)
    assert not torch.equal(together.noise, together.vae_noise)


def test_global_generator_is_not_touched():
    before = torch.get_rng_state()
    draw(0, range(4), 4, 1000, 0.1, SHAPE)
    sample_indices(5, range(4), 7)
    assert torch.equal(torch.get_rng_state(), before)


def test_timesteps_of_a_step_cover_the_schedule_evenly():
    timesteps = draw(0, range(160, 176), 16, 1000, 0.0, SHAPE).timesteps
    gaps = timesteps.sort().values.diff()
    assert gaps.min() >= 62
    assert gaps.max() <= 63


def test_timesteps_are_uniform_over_steps():
    drawn = torch.cat([draw(0, [p], 4, 10, 0.0, SHAPE).timesteps for p in range(2000)])
    counts = torch.bincount(drawn, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 150
    assert counts.max() < 250


def test_dropout_is_a_fraction():
    keep = draw(0, range(2000), 16, 1000, 0.1, SHAPE).keep_caption
    assert 0.87 < keep.float().mean().item() < 0.93
    assert bool(draw(0, range(50), 16, 1000, 0.0, SHAPE).keep_caption.all())


def test_a_step_chooses_by_its_seed_and_number():
    assert step_choice(1, 5) == step_choice(1, 5)
    assert len({step_choice(seed, step) for seed in range(3) for step in range(3)}) == 9


def test_one_bucket_is_read_as_ever():
    for step in (0, 3, 40):
        positions = range(step * 4, step * 4 + 4)
        together = bucketed_indices(5, positions, 4, [range(10)])
        assert torch.equal(together, sample_indices(5, positions, 10))


BUCKETS = [range(57), range(57, 97), range(97, 100)]


def _step(number: int, seed: int = 0) -> list[int]:
    return bucketed_indices(seed, range(number * 8, number * 8 + 8), 8, BUCKETS).tolist()


def test_a_step_is_of_one_bucket_however_it_is_spread():
    for number in range(60):
        (bucket,) = {next(b for b in BUCKETS if i in b) for i in _step(number)}
        repeated = 8 - len(set(_step(number)))
        assert repeated == (0 if len(bucket) >= 8 else 8 - len(bucket))
        parts = [
            bucketed_indices(0, step_positions(number, micro, rank, BatchPlan(2, 2, 2)), 8, BUCKETS)
            for micro in range(2)
            for rank in range(2)
        ]
        assert torch.cat(parts).tolist() == _step(number)
    assert [_step(n, seed=1) for n in range(5)] != [_step(n) for n in range(5)]


def test_buckets_are_drawn_in_proportion_to_their_samples():
    """Also one with fewer samples than a step; and each sample as often as another."""
    epochs = 400
    per_epoch = [[i for n in range(13) for i in _step(e * 13 + n)] for e in range(epochs)]
    # Systematic: in no epoch more or fewer steps than the share, rounded.
    for epoch in per_epoch:
        for bucket in BUCKETS:
            share = 13 * len(bucket) / 100
            steps = sum(i in bucket for i in epoch) / 8
            assert steps in (math.floor(share), math.ceil(share))
    uses = torch.bincount(torch.tensor(per_epoch).flatten(), minlength=100).float() / epochs
    # 13 steps of 8 for 100 samples; 0.39 of a step for the small bucket: 8 or nothing.
    assert uses.mean() == pytest.approx(1.04)
    assert uses[:97].min() > 0.9
    assert uses[:97].max() < 1.2
    assert uses[97:].tolist() == pytest.approx([1.04] * 3, rel=0.15)
