"""Configs from shapes, of the published architectures and against their published configs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.checkpoints import open_clip_layout, unet_layout, vae_layout

from edgekd.diffusion.single_file.configs import (
    clip_config,
    open_clip_config,
    scheduler_config,
    unet_config,
    vae_config,
)
from edgekd.diffusion.single_file.convert import drawing_layers
from edgekd.diffusion.weights import StoredTensor
from edgekd.errors import InputError
from edgekd.student.reference import ARCHITECTURES

NAMES = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}


def headers(state: dict[str, torch.Tensor]) -> dict[str, StoredTensor]:
    return {k: StoredTensor(Path("x"), k, tuple(x.shape), "F32") for k, x in state.items()}


def model(class_name: str, config: dict[str, Any]) -> Any:
    from edgekd.libraries import diffusers, transformers

    with torch.device("meta"):
        if class_name.startswith("CLIP"):
            return getattr(transformers, class_name)(transformers.CLIPTextConfig(**config))
        return getattr(diffusers, class_name).from_config(config)


def said(found: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    """What a found config says of the fields of a published one, defaults filled in."""
    from edgekd.libraries import diffusers

    with torch.device("meta"):
        whole = getattr(diffusers, found["_class_name"]).from_config(found).config
    return {k: list(whole[k]) if isinstance(whole[k], tuple) else whole[k] for k in published}


@pytest.mark.parametrize("family", NAMES)
def test_unet(family):
    published = ARCHITECTURES[NAMES[family]]["unet"]
    layout = unet_layout(model("UNet2DConditionModel", published))
    found = unet_config(headers(layout), family)
    if family == "sdxl":
        found["addition_time_embed_dim"] = 256  # with the text's width: see `parts.write_u_net`
    found["sample_size"] = published["sample_size"]
    assert found["transformer_layers_per_block"] == published.get(
        "transformer_layers_per_block", [1] * 4
    )
    assert said(found, published) == published


def test_vae():
    published = ARCHITECTURES["sd15"]["vae"]
    layout = headers(vae_layout(model("AutoencoderKL", published)))
    assert said(vae_config(layout, "sd1", 512), published) == published
    scales = [vae_config(layout, family, 512)["scaling_factor"] for family in NAMES]
    assert scales == [0.18215, 0.18215, 0.13025]


def test_clip():
    published = ARCHITECTURES["sd15"]["text_encoder"]
    found = clip_config(headers(model("CLIPTextModel", published).state_dict()))
    assert {key: found[key] for key in published} == published


@pytest.mark.parametrize(
    ("architecture", "part", "class_name"),
    [
        ("sd21", "text_encoder", "CLIPTextModel"),
        ("sdxl", "text_encoder_2", "CLIPTextModelWithProjection"),
    ],
)
def test_open_clip(architecture, part, class_name):
    published = ARCHITECTURES[architecture][part]
    layout = open_clip_layout(model(class_name, published).state_dict())
    found = open_clip_config(headers(layout))
    assert found["architectures"] == [class_name]
    # The width of a projection that Stable Diffusion 2 does not have is of no consequence.
    unused = {"projection_dim"} if part == "text_encoder" else set()
    assert {k: found[k] for k in published if k not in unused} == {
        k: x for k, x in published.items() if k not in unused
    }


@pytest.mark.parametrize(
    ("layers", "extras", "projected", "left"),
    [
        (24, ("text_projection", "logit_scale"), False, 23),  # as Stability publishes it
        (24, (), False, 23),
        (23, (), False, 23),  # made of a diffusers folder
        (32, ("text_projection", "logit_scale"), True, 32),  # SDXL's second
    ],
)
def test_layers_that_nothing_reads_are_left_out(layers, extras, projected, left):
    names = [f"transformer.resblocks.{i}.ln_1.weight" for i in range(layers)]
    tensors = headers({name: torch.zeros(1) for name in (*names, *extras)})
    found = drawing_layers(tensors, projected)
    assert sum("resblocks" in name for name in found) == left
    assert ("text_projection" in found) == (projected and "text_projection" in extras)
    assert "logit_scale" not in found


def test_zero_snr_draws_from_the_last_step():
    for family in NAMES:
        plain = scheduler_config(family, "epsilon", False)
        zero = scheduler_config(family, "v_prediction", True)
        assert (plain["timestep_spacing"], plain["rescale_betas_zero_snr"]) == ("leading", False)
        assert (zero["timestep_spacing"], zero["rescale_betas_zero_snr"]) == ("trailing", True)


def test_shapes_that_make_no_model_are_one_line():
    with pytest.raises(InputError, match=r"must have `out.2.weight` with 4 dimensions"):
        unet_config(headers({"input_blocks.0.0.weight": torch.zeros(1, 4, 3, 3)}), "sd1")
    many = {f"input_blocks.{i}.0.op.weight": torch.zeros(1) for i in (1, 10**6)}
    with pytest.raises(InputError, match="at most 64 layers"):
        unet_config(headers(many), "sd1")
