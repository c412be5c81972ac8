"""Configs of narrow VAEs for a teacher's U-Nets: stock classes in the same latent space.

Of the pictures that a student draws in few steps, decoding is a large part. A narrow VAE keeps
its teacher's latents (channels, scaling, size), so that any U-Net of that teacher draws with it.
An `AutoencoderKL` has one row of widths for both of its halves: the encoder is as narrow as the
decoder. An `AutoencoderTiny` (TAESD, github.com/madebyollin/taesd) has convolutions alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.errors import InputError
from edgekd.recipe_distill import DecoderSection
from edgekd.schema import validate
from edgekd.student.cost import VaeConfig

DEFAULT_GROUPS = 32  # diffusers' `norm_num_groups`
# Channels and residual blocks of a stage of TAESD's; its last stage, at full size, has one block.
TAESD_CHANNELS, TAESD_BLOCKS = 64, 3


def student_vae_config(
    section: DecoderSection, teacher_config: Mapping[str, Any]
) -> dict[str, Any]:
    """The config of a recipe's narrow VAE.

    Args:
        teacher_config: of an `AutoencoderKL`.

    Raises:
        InputError: see `narrow_vae_config`.
    """
    make = {"kl": narrow_vae_config, "tiny": tiny_vae_config}[section.kind]
    return make(teacher_config, section.width, section.layers)


def narrow_vae_config(
    teacher_config: Mapping[str, Any], width: float, layers: int | None = None
) -> dict[str, Any]:
    """The config of a narrow `AutoencoderKL`.

    Whole groups of channels are left out, of every stage the same share: each group that stays
    is normalised over as many channels as the teacher's. Attention in the middle is left out: it
    compares all positions of the latents with one another, which takes most of a decoder's
    memory, and a narrow VAE is trained on crops that it would not see beyond.

    Args:
        teacher_config: of an `AutoencoderKL`.
        width: share of the channels that stays, in (0, 1].
        layers: residual blocks of a stage, at most the teacher's (the decoder has one more);
            None: as many.

    Raises:
        InputError: another kind of VAE, or a share or number that the teacher does not have.
    """
    teacher = validate(VaeConfig, dict(teacher_config), "the VAE of Stable Diffusion")
    groups = int(teacher_config.get("norm_num_groups", DEFAULT_GROUPS))
    kept = round(width * groups)
    if not 1 <= kept <= groups:
        raise InputError(
            f"the narrow VAE must keep 1 to {groups} groups of channels",
            f"width {width:g} of {groups}",
        )
    layers = teacher.layers_per_block if layers is None else layers
    if not 1 <= layers <= teacher.layers_per_block:
        raise InputError(
            f"the narrow VAE must have 1 to {teacher.layers_per_block} residual blocks in a stage",
            str(layers),
        )
    config = {
        key: value
        for key, value in teacher_config.items()
        if not key.startswith("_") or key == "_class_name"
    }
    config["block_out_channels"] = [
        channels // groups * kept for channels in teacher.block_out_channels
    ]
    config["norm_num_groups"] = kept
    config["layers_per_block"] = layers
    config["mid_block_add_attention"] = False
    return config


def tiny_vae_config(
    teacher_config: Mapping[str, Any], width: float, layers: int | None = None
) -> dict[str, Any]:
    """The config of an `AutoencoderTiny` for a teacher: of Stable Diffusion's, TAESD's at width 1.

    It has as many stages as its teacher, all of the same width. Its latents are scaled as the
    U-Net's: `scaling_factor` is 1.

    Args:
        teacher_config: of an `AutoencoderKL`.
        width: of 64 channels.
        layers: residual blocks of a stage but the one at full size, which has one; None: 3.

    Raises:
        InputError: another kind of VAE.
    """
    teacher = validate(VaeConfig, dict(teacher_config), "the VAE of Stable Diffusion")
    stages = len(teacher.block_out_channels)
    blocks = [TAESD_BLOCKS if layers is None else layers] * (stages - 1)
    channels = [max(1, round(width * TAESD_CHANNELS))] * stages
    return {
        "_class_name": "AutoencoderTiny",
        "in_channels": teacher.in_channels,
        "out_channels": teacher.out_channels,
        "latent_channels": teacher.latent_channels,
        "encoder_block_out_channels": channels,
        "decoder_block_out_channels": channels,
        "num_encoder_blocks": [1, *blocks],
        "num_decoder_blocks": [*blocks, 1],
        "scaling_factor": 1.0,
    }
