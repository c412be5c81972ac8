import logging
from dataclasses import replace

import numpy as np
import pytest

from edgekd.errors import GateError, InputError
from edgekd.runtime.conditions import open_encoders
from edgekd.runtime.folder import Shapes, read_folder
from edgekd.runtime.options import RuntimeOptions
from edgekd.runtime.pipeline import Pipeline


def test_defaults_come_from_the_folder(pipeline, parts):
    pictures = pipeline.generate(["red apple", "blue car"])
    assert (pictures.shape, pictures.dtype) == ((2, 64, 64, 3), np.uint8)
    assert (pictures == round(0.75 * 255)).all()  # 0.5 in [-1, 1]
    # Three steps with guidance, both branches in one call; one picture at a time is decoded.
    assert parts.shapes("unet", "sample") == [(4, 4, 16, 16)] * 3
    assert parts.shapes("unet", "timestep") == [()] * 3
    assert parts.shapes("vae_decoder", "latent_sample") == [(1, 4, 16, 16)] * 2


def test_guidance_in_two_calls(pipeline, parts):
    pipeline.generate(["red apple"], negative_prompt="blue", steps=2, fuse_guidance=False)
    assert parts.shapes("unet", "sample") == [(1, 4, 16, 16)] * 4
    away, to, *_ = (
        inputs["encoder_hidden_states"] for part, inputs in parts.calls if part == "unet"
    )
    tokenizer = pipeline.encoders[0].tokenizer
    for states, prompt in ((away, "blue"), (to, "red apple")):
        np.testing.assert_array_equal(states[..., 0], tokenizer([prompt])[0])


def test_guidance_as_the_folder_says(pipeline, parts):
    folder = replace(pipeline.folder, options=RuntimeOptions(fused_guidance=False))
    replace(pipeline, folder=folder).generate(["red apple"], steps=2)
    assert parts.shapes("unet", "sample") == [(1, 4, 16, 16)] * 4


def test_no_guidance_at_one(pipeline, parts):
    pipeline.generate(["red apple"], guidance_scale=1.0, steps=2)
    assert parts.shapes("unet", "sample") == [(1, 4, 16, 16)] * 2
    assert parts.shapes("text_encoder", "input_ids") == [
        (1, pipeline.encoders[0].tokenizer.max_length)
    ]


def test_a_picture_does_not_depend_on_its_company(pipeline, parts):
    pipeline.generate(["red apple", "blue car"], seed=5, steps=1, guidance_scale=1.0)
    pipeline.generate(["blue car"], seed=6, steps=1, guidance_scale=1.0)
    together, alone = (inputs["sample"] for part, inputs in parts.calls if part == "unet")
    np.testing.assert_array_equal(together[1:], alone)
    assert (together[0] != together[1]).any()


def test_prompts_that_are_too_long_are_named(pipeline, caplog):
    with caplog.at_level(logging.WARNING, "edgekd.runtime"):
        pipeline.generate(["apple " * 40, "apple"], steps=1)
    (message,) = caplog.messages
    assert "tokens do not fit" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "a list of at least one prompt"),
        ({"prompts": "red apple"}, "a list of at least one prompt"),
        ({"negative_prompt": ["a", "b"]}, "`negative_prompt` must be one, or 1"),
        ({"steps": 0}, "1 <= steps <= 1000"),
        ({"guidance_scale": -1.0}, "0 <= guidance_scale"),
        ({"guidance_scale": float("nan")}, "0 <= guidance_scale"),
        ({"seed": -1}, "0 <= seed"),
        ({"seed": [1, 2]}, "`seed` must be one, or 1"),
        ({"height": 70}, "multiples of 16, but got height=70, width=64"),
        ({"width": 0}, "multiples of 16"),
    ],
)
def test_requests_that_are_refused(pipeline, parts, options, message):
    with pytest.raises(InputError, match=message):
        pipeline.generate(**{"prompts": ["red apple"], **options})
    assert not [part for part, _ in parts.calls if part == "unet"]


def test_a_guidance_distilled_pipeline_takes_no_negative_prompt(pipeline):
    distilled = replace(pipeline, folder=replace(pipeline.folder, guidance_width=32))
    with pytest.raises(InputError, match="takes no negative prompt, but got 'rain'"):
        distilled.generate(["red apple"], negative_prompt="rain", steps=1)
    assert distilled.generate(["red apple"], negative_prompt="", steps=1).shape == (1, 64, 64, 3)


def test_each_picture_may_have_its_own_seed(pipeline, parts):
    pipeline.generate(["a", "b"], steps=1, guidance_scale=1, seed=[7, 3])
    for seed in (7, 3):
        pipeline.generate(["a"], steps=1, guidance_scale=1, seed=seed)
    together, *apart = (inputs["sample"] for part, inputs in parts.calls if part == "unet")
    assert (together == np.concatenate(apart)).all()


def test_fixed_shapes(pipeline):
    fixed = replace(pipeline, folder=replace(pipeline.folder, shapes=Shapes((64, 64), 16, False)))
    assert fixed.generate(["red apple"], height=64).shape == (1, 64, 64, 3)
    with pytest.raises(InputError, match="must be 64 by 64 pixels, but got height=80, width=64"):
        fixed.generate(["red apple"], height=80)


def test_pictures_that_are_not_finite(pipeline, parts):
    parts.noise = float("nan")
    with pytest.raises(GateError, match="pictures must be finite"):
        pipeline.generate(["red apple"], steps=1)


@pytest.mark.parametrize(
    ("part", "outputs", "message"),
    [
        ("text_encoder", {}, "must give `last_hidden_state` .* got none"),
        ("text_encoder", {"last_hidden_state": np.zeros((1, 8))}, r"got \[1, 8\]"),
        ("text_encoder", {"last_hidden_state": np.float32(3)}, "got none"),
        ("unet", {"sample": np.zeros((1, 4, 16, 16))}, "the unet must give `out_sample`"),
        ("unet", {"out_sample": np.zeros((1, 4, 8, 8))}, r"got \[1, 4, 8, 8\]"),
        ("vae_decoder", {"sample": np.zeros((1, 3, 32, 32))}, r"\[1, 3, 64, 64\].* got \[1, 3, 32"),
    ],
)
def test_outputs_of_other_models(part, outputs, message, pipeline, parts):
    run = parts.run
    parts.run = lambda name, inputs: outputs if name == part else run(name, inputs)
    with pytest.raises(InputError, match=message):
        pipeline.generate(["red apple"], steps=1, guidance_scale=1.0)


def test_all_models_can_be_loaded_before_the_first_picture(pipeline, parts):
    pipeline.load()
    assert parts.loaded == ["text_encoder", "unet", "vae_decoder"]
    assert parts.calls == []


@pytest.mark.parametrize(("sampler", "calls"), [("ddim", 3), ("heun", 5)])
def test_each_call_of_the_unet_is_told(folder, parts, sampler, calls):
    told: list[tuple[int, int, np.ndarray]] = []
    described = read_folder(folder, sampler)
    pipeline = Pipeline(described, parts, tuple(open_encoders(described, parts)))
    options = {"steps": 3, "seed": 4}
    pictures = pipeline.generate(["red apple"], on_step=lambda *step: told.append(step), **options)
    assert [step[:2] for step in told] == [(done, calls) for done in range(1, calls + 1)]
    # What the U-Net is given at its next call, once for each branch of guidance.
    given = [inputs["sample"][:1] for part, inputs in parts.calls if part == "unet"]
    for (_, _, latents), following in zip(told, given[1:], strict=False):
        np.testing.assert_array_equal(latents, following)
    np.testing.assert_array_equal(pipeline.decode(told[-1][2][0]), pictures[0])
    np.testing.assert_array_equal(pipeline.generate(["red apple"], **options), pictures)


def test_a_drawing_can_be_stopped(pipeline, parts):
    def stop(done: int, calls: int, latents: object) -> None:
        if done == 2:
            raise KeyError(calls)

    with pytest.raises(KeyError):
        pipeline.generate(["red apple"], steps=5, on_step=stop)
    assert len(parts.shapes("unet", "sample")) == 2
    assert not parts.shapes("vae_decoder", "latent_sample")
