from edgekd.benchmark.drawer import noise_seed


def test_noise_differs_between_prompts_and_between_seeds():
    seeds = {noise_seed(seed, index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
