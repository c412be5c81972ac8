"""A narrow VAE for a teacher's U-Nets: a stock `AutoencoderKL` config in the same latent space.

Of the pictures that a student draws in few steps, decoding is a large part. The narrow VAE keeps
its teacher's latents (channels, scaling, shift, size), so that any U-Net of that teacher draws
with it. An `AutoencoderKL` has one row of widths for both of its halves: the encoder is as narrow
as the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.errors import InputError
from edgekd.schema import validate
from edgekd.student.cost import VaeConfig, vae_cost

DEFAULT_GROUPS = 32  # diffusers' `norm_num_groups`


def narrow_vae_config(
    teacher_config: Mapping[str, Any], width: float, layers: int | None = None
) -> dict[str, Any]:
    """The narrow VAE's config.

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


def decoder_share(
    config: Mapping[str, Any], teacher_config: Mapping[str, Any], latent_size: tuple[int, int]
) -> float:
    """The decoder's multiply-accumulates over its teacher's; see `edgekd.student.cost`."""
    _, narrow = vae_cost(config, latent_size)
    _, teacher = vae_cost(teacher_config, latent_size)
    return narrow.macs / teacher.macs
