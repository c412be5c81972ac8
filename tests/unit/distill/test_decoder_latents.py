"""Which latents a narrow VAE learns from."""

import pytest
import torch
from torch import Tensor

from edgekd.diffusion.encode import sample_latents
from edgekd.distill.decoder_latents import DecoderLatents, middle, random_crop
from edgekd.training.draws import generator

CONFIG = {"scaling_factor": 0.5, "shift_factor": 1.0}


class Drawn:
    """Five scaled latents, each of its own value."""

    def __len__(self) -> int:
        return 5

    def batch(self, indices: Tensor) -> Tensor:
        return indices[:, None, None, None].float().expand(-1, 4, 8, 8)


@pytest.fixture
def latents(bench):
    def make(generated=None, share=0.5, crop=32):
        return DecoderLatents(bench.train, generated, CONFIG, share, crop)

    return make


def test_each_depends_on_seed_and_position_only(latents):
    one = latents(Drawn(), crop=4).training(0, [3, 8, 20])
    assert one.shape == (3, 4, 4, 4)
    alone = latents(Drawn(), crop=4).training(0, [8])
    assert torch.equal(one[1:2], alone)
    assert not torch.equal(one, latents(Drawn(), crop=4).training(1, [3, 8, 20]))


def test_images_are_sampled_from_their_posterior(latents, bench):
    """Sampled, not scaled: the mean within the deviations of every sample."""
    rows = latents().training(0, range(len(bench.train)))
    found = {
        int((bench.train.mean - row).abs().mean(dim=(1, 2, 3)).argmin()) for row in rows.unbind()
    }
    assert found == set(range(len(bench.train)))  # an epoch is a permutation
    nearest = (bench.train.mean - rows[:1]).abs().mean(dim=(1, 2, 3)).min()
    assert 0 < float(nearest) < 3 * float(torch.exp(0.5 * bench.train.logvar).max())


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)])
def test_share_of_drawn_ones(latents, share, least, most):
    rows = latents(Drawn(), share).training(0, range(200))
    constant = (rows.flatten(1).std(dim=1) == 0).sum()
    assert least <= int(constant) <= most


def test_drawn_ones_are_unscaled_to_what_the_decoder_takes(latents):
    rows = latents(Drawn(), 1.0).training(0, range(40))
    assert set(rows[:, 0, 0, 0].tolist()) == {value / 0.5 + 1.0 for value in range(5)}
    scaled = sample_latents(rows, torch.zeros_like(rows), CONFIG, None)
    assert set(scaled[:, 0, 0, 0].tolist()) == set(range(5))


def test_nothing_drawn(latents):
    assert latents().drawn(3) is None
    assert latents(share=1.0).training(0, range(4)).std() > 0


def test_held_out_ones_are_spread_and_cut_in_the_middle(latents, bench):
    held_out = latents(Drawn(), crop=6)
    assert torch.equal(held_out.means(2), bench.train.mean[[0, 6]][:, :, 1:7, 1:7])
    assert held_out.means(100).shape == (12, 4, 6, 6)
    assert held_out.drawn(100)[:, 0, 0, 0].tolist() == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("shape", [(4, 9, 5), (4, 5, 9)])
def test_crops(shape):
    whole = torch.randn(shape)
    source = generator(0, "test", 0)
    crops = [random_crop(whole, 6, source) for _ in range(30)]
    assert {tuple(crop.shape[1:]) for crop in crops} == {(min(shape[1], 6), min(shape[2], 6))}
    assert len({float(crop[0, 0, 0]) for crop in crops}) == 4  # every place there is
    assert torch.equal(random_crop(whole, 32, source), whole)
    assert torch.equal(middle(whole[None], 32)[0], whole)
