import torch

from edgekd.training.draws import BatchPlan, draw, sample_indices, step_choice, step_positions

SHAPE = (4, 2, 2)


def test_every_epoch_is_a_permutation():
    indices = sample_indices(0, range(20), 10).tolist()
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10] != indices[10:]
    assert sample_indices(1, range(10), 10).tolist() != indices[:10]


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
