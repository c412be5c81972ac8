"""Costs counted from shapes equal what torch counts on the stock models."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekd.errors import InputError
from edgekd.libraries import diffusers, transformers
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.cost import ComponentCost, text_encoder_cost, unet_cost, vae_cost
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import full, preset


def counted(
    model: Any, call: Callable[[Any], Any], prefixes: tuple[str, ...] = ("",)
) -> ComponentCost:
    """Cost of a meta model by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(model)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    state = {k: v for k, v in model.state_dict().items() if k.startswith(prefixes)}
    return ComponentCost(sum(v.numel() for v in state.values()), len(state), flops // 2)


def count_unet(config: dict[str, Any], size: tuple[int, int], tokens: int) -> ComponentCost:
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(config)
        added = {}
        if config.get("addition_embed_type") is not None:
            pooled = config["projection_class_embeddings_input_dim"]
            pooled -= 6 * config["addition_time_embed_dim"]
            added = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
        inputs = (
            torch.empty(1, config["in_channels"], *size),
            torch.empty(1),
            torch.empty(1, tokens, config["cross_attention_dim"]),
        )
        return counted(unet, lambda model: model(*inputs, added_cond_kwargs=added))


@pytest.mark.parametrize("name", [None, "bk-sdm-tiny"])
def test_unet(unet_config, name):
    config = unet_config
    arch = full(config) if name is None else preset(name, config)
    student = to_unet_config(arch, config)
    # Odd sides: every halving rounds up.
    assert unet_cost(arch, config, (9, 14), 7) == count_unet(student, (9, 14), 7)


def test_a_narrow_unet():
    config = ARCHITECTURES["sd15"]["unet"]
    stages = (StageArch(), StageArch(width=320), *(StageArch(width=640),) * 2)
    arch = StudentArch(stages=stages, mid=False)
    assert unet_cost(arch, config, (16, 16), 77) == count_unet(
        to_unet_config(arch, config), (16, 16), 77
    )


def test_the_starter(starter_teacher):
    config = json.loads((starter_teacher / "unet" / "config.json").read_text())
    cost = unet_cost(full(config), config, (16, 16), 32)
    assert cost == count_unet(config, (16, 16), 32)
    assert cost.parameters == 12_759_556


def test_sd15_unet_agrees_with_published_figures():
    """859.5 M parameters; 339 G MACs by a counter that leaves attention's products out."""
    config = ARCHITECTURES["sd15"]["unet"]
    cost = unet_cost(full(config), config, (64, 64), 77)
    assert cost.parameters == 859_520_964
    products = 0
    # Transformers per level (down 2, up 3; the mid block at level 3), by the architecture.
    for level, width, transformers_here in ((0, 320, 5), (1, 640, 5), (2, 1280, 5), (3, 1280, 1)):
        pixels = (64 >> level) ** 2
        products += transformers_here * 2 * pixels * (pixels + 77) * width
    assert (cost.macs - products) / 1e9 == pytest.approx(338.7, abs=0.5)
    assert cost.macs / 1e9 == pytest.approx(401.6, abs=0.1)


@pytest.mark.parametrize("changes", [{}, {"mid_block_add_attention": False, "in_channels": 1}])
def test_vae(changes):
    config = {
        **ARCHITECTURES["sd15"]["vae"],
        "block_out_channels": [16, 32, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "norm_num_groups": 8,
        **changes,
    }
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL.from_config(config)
        image = torch.empty(1, config["in_channels"], 24, 40)
        latents = torch.empty(1, 4, 6, 10)
        encoder = counted(vae, lambda m: m.encode(image), ("encoder", "quant_conv"))
        decoder = counted(vae, lambda m: m.decode(latents), ("decoder", "post_quant_conv"))
    assert vae_cost(config, (6, 10)) == (encoder, decoder)


def test_published_vae_and_text_encoders():
    encoder, decoder = vae_cost(ARCHITECTURES["sd15"]["vae"], (64, 64))
    assert encoder.parameters + decoder.parameters == 83_653_863
    for arch, name, parameters in (
        ("sd15", "text_encoder", 123_060_480),
        ("sd21", "text_encoder", 340_387_840),
        ("sdxl", "text_encoder_2", 694_659_840),
    ):
        cost = text_encoder_cost(ARCHITECTURES[arch][name], name == "text_encoder_2")
        assert cost.parameters == parameters


@pytest.mark.parametrize("projection", [False, True])
def test_text_encoder(projection):
    config = {
        **ARCHITECTURES["sd15"]["text_encoder"],
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "projection_dim": 20,
        "vocab_size": 99,
    }
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    with torch.device("meta"):
        model = kind(transformers.CLIPTextConfig(**config))
        ids = torch.zeros(1, 77, dtype=torch.long)
        assert text_encoder_cost(config, projection) == counted(model, lambda m: m(ids))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("vae", {"down_block_types": ["AttnDownEncoderBlock2D"] * 4}),
        ("vae", {"block_out_channels": [128, "256"]}),
        ("vae", {"layers_per_block": 0}),
        ("text_encoder", {"hidden_size": None}),
    ],
)
def test_bad_configs(part, change):
    config = {**ARCHITECTURES["sd15"][part], **change}
    with pytest.raises(InputError, match=next(iter(change))):
        vae_cost(config, (64, 64)) if part == "vae" else text_encoder_cost(config, False)
