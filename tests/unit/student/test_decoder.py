"""Configs of narrow VAEs: what changes, what stays, what it costs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.reading import read_json
from edgekd.recipe import load_recipe
from edgekd.recipe_distill import DecoderSection
from edgekd.resources import find_yaml
from edgekd.student.cost import decoder_cost
from edgekd.student.decoder import narrow_vae_config, student_vae_config, tiny_vae_config
from edgekd.student.reference import ARCHITECTURES

SD15 = ARCHITECTURES["sd15"]["vae"]
CHANGED = {
    "block_out_channels",
    "norm_num_groups",
    "layers_per_block",
    "mid_block_add_attention",
}


@pytest.mark.parametrize(
    ("width", "layers", "widths", "groups", "kept_layers"),
    [
        (0.25, None, [32, 64, 128, 128], 8, 2),
        (0.5, 1, [64, 128, 256, 256], 16, 1),
        (1.0, None, [128, 256, 512, 512], 32, 2),
        (0.26, None, [32, 64, 128, 128], 8, 2),  # the nearest whole number of groups
    ],
)
def test_of_stable_diffusion(width, layers, widths, groups, kept_layers):
    config = narrow_vae_config({**SD15, "_name_or_path": "/a"}, width, layers)
    assert config["block_out_channels"] == widths
    assert config["norm_num_groups"] == groups
    assert config["layers_per_block"] == kept_layers
    assert config["mid_block_add_attention"] is False
    assert {k: v for k, v in config.items() if k not in CHANGED} == {
        k: v for k, v in SD15.items() if k not in CHANGED
    }


def test_the_latent_space_stays(starter_teacher):
    teacher = read_json(starter_teacher / "vae" / "config.json")
    config = narrow_vae_config({**teacher, "shift_factor": 0.1}, 0.5)
    assert config["block_out_channels"] == [16, 32, 48]
    for key in ("scaling_factor", "latent_channels", "force_upcast", "latents_mean"):
        assert config[key] == teacher[key]
    assert config["shift_factor"] == 0.1


def test_a_tiny_one_of_stable_diffusion_is_taesd():
    """diffusers' defaults are."""
    ours, theirs = (
        dict(vae.config)
        for vae in (
            diffusers.AutoencoderTiny.from_config(tiny_vae_config(SD15, 1.0)),
            diffusers.AutoencoderTiny(),
        )
    )
    for config in (ours, theirs):
        for name in [name for name in config if name.startswith("_")]:
            del config[name]
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in theirs.items()} == ours


def test_a_tiny_one_has_the_teachers_stages(starter_teacher):
    teacher = read_json(starter_teacher / "vae" / "config.json")
    config = tiny_vae_config(teacher, 0.25, 2)
    assert config["encoder_block_out_channels"] == config["decoder_block_out_channels"] == [16] * 3
    assert config["num_encoder_blocks"] == [1, 2, 2]
    assert config["num_decoder_blocks"] == [2, 2, 1]
    assert config["latent_channels"] == teacher["latent_channels"]


@pytest.mark.parametrize("kind", ["kl", "tiny"])
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("layers", [1, 2])
def test_cost_is_what_torch_counts(kind, width, layers):
    section = DecoderSection(kind=kind, width=width, layers=layers)
    config = student_vae_config(section, SD15)
    found = decoder_cost(config, (16, 24))
    make = {"kl": diffusers.AutoencoderKL, "tiny": diffusers.AutoencoderTiny}[kind]
    with torch.device("meta"):
        vae = make.from_config(config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            vae.decode(torch.empty(1, 4, 16, 24))
    halves = [vae.decoder] if kind == "tiny" else [vae.decoder, vae.post_quant_conv]
    tensors = [tensor for half in halves for tensor in half.parameters()]
    assert found.macs == counter.get_total_flops() // 2
    assert (found.parameters, found.tensors) == (sum(t.numel() for t in tensors), len(tensors))


@pytest.mark.parametrize("name", ["starter", "sd15-bk-tiny", "sd15-few-step", "sd21-bk-small"])
def test_shipped_recipes_decode_with_a_quarter_of_the_teachers_work(name, starter_teacher):
    recipe = load_recipe(find_yaml("configs", name))
    teacher = SD15 if recipe.teacher.arch else read_json(starter_teacher / "vae" / "config.json")
    config = student_vae_config(recipe.distill.decoder, teacher)
    student, whole = (decoder_cost(each, (16, 16)).macs for each in (config, teacher))
    # In whole percent: the first and last convolutions, which reach latents and pictures, shrink
    # as the width and not as its square. The starter's has 25.1 %.
    assert round(100 * student / whole) <= 25


@pytest.mark.parametrize(
    ("changes", "width", "layers", "rule"),
    [
        ({}, 0.01, None, "1 to 32 groups"),
        ({}, 1.1, None, "1 to 32 groups"),
        ({}, 0.5, 3, "1 to 2 residual blocks"),
        ({}, 0.5, 0, "1 to 2 residual blocks"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 4}, 0.5, None, "up_block_types"),
    ],
)
def test_what_is_refused(changes, width, layers, rule):
    with pytest.raises(InputError, match=rule):
        narrow_vae_config({**SD15, **changes}, width, layers)


def test_another_vae_gets_no_tiny_one():
    with pytest.raises(InputError, match="up_block_types"):
        tiny_vae_config({**SD15, "up_block_types": ["AttnUpDecoderBlock2D"] * 4}, 0.5)
