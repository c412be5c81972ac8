import math
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.export.bits.sensitivity import RepeatedDrawing, noise_db, rounded
from edgekd.export.bits.storage import LinearStorage
from edgekd.export.bits.weights import Bits, weights
from edgekd.export.protocol import Generation
from edgekd.export.record import Session, draw
from edgekd.export.trajectory import parity_session

STORAGE = LinearStorage(dict.fromkeys(("conv", "linear", "embedding"), (8, 6, 4)))
GENERATION = Generation(steps=2, guidance_scale=3.0)
PROMPTS = ["red apple", "a boat"]


@pytest.fixture(scope="module")
def drawing(tiny_pipeline) -> RepeatedDrawing:
    return RepeatedDrawing(tiny_pipeline, parity_session(PROMPTS, GENERATION), STORAGE)


def decoder(pipeline: Any, bits: int) -> Bits:
    return dict.fromkeys([name for name in weights(pipeline.vae) if "decoder." in name], bits)


def test_pictures_are_those_that_parity_draws(tiny_pipeline, drawing):
    with torch.inference_mode():
        expected = draw(tiny_pipeline, Session(prompts=tuple(PROMPTS), steps=2, guidance_scale=3.0))
    # One batch here, one by one there.
    np.testing.assert_allclose(drawing.pictures, expected, atol=2e-5)


def test_nothing_rounded_is_no_noise(drawing):
    noise = drawing.noise({"unet": {"conv_in.weight": None}})
    assert (noise.pictures, noise.latents) == (0, 0)


def test_fewer_bits_are_more_noise(tiny_pipeline, drawing):
    names = list(weights(tiny_pipeline.unet))
    noise = [drawing.noise({"unet": dict.fromkeys(names, bits)}) for bits in (8, 6, 4)]
    assert 0 < noise[0].pictures < noise[1].pictures < noise[2].pictures
    assert 0 < noise[0].latents < noise[1].latents < noise[2].latents


def test_decoder_alone_is_not_drawn_but_decoded(tiny_pipeline, drawing, monkeypatch):
    bits = {"vae": decoder(tiny_pipeline, 4)}
    # A component without rounded weights makes it draw the whole way.
    whole = drawing.noise({**bits, "unet": {}})
    monkeypatch.setattr(drawing, "_draw", None)
    short = drawing.noise(bits)
    assert short.latents == 0
    assert short.pictures == pytest.approx(whole.pictures, rel=1e-3)


def test_weights_are_put_back_bit_for_bit(tiny_pipeline):
    found = {"unet": tiny_pipeline.unet}
    before = {name: tensor.clone() for name, tensor in tiny_pipeline.unet.state_dict().items()}
    name = "mid_block.resnets.0.conv1.weight"
    with pytest.raises(KeyError), rounded(found, {"unet": {name: 4, "gone.weight": 4}}, STORAGE):
        raise AssertionError("an unknown name is met before anything is drawn")
    with rounded(found, {"unet": {name: 4}}, STORAGE):
        inside = tiny_pipeline.unet.state_dict()[name]
        np.testing.assert_array_equal(inside.numpy(), STORAGE.rounded(before[name].numpy(), 4))
    for key, tensor in tiny_pipeline.unet.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_noise_that_is_not_finite_is_infinite(drawing, monkeypatch):
    broken = (drawing.latents, np.full_like(drawing.pictures, np.nan))
    monkeypatch.setattr(drawing, "_draw", lambda: broken)
    assert drawing.noise({"unet": {}}).pictures == math.inf


def test_noise_in_db():
    assert noise_db(0.01) == pytest.approx(20)
    assert noise_db(0.01, peak=10) == pytest.approx(40)
    assert noise_db(0.0) == 200
    assert noise_db(math.inf) == -200
