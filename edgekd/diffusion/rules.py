"""Rules between the parts of a teacher, on their configs: each is one InputError.

The arguments are the configs of diffusers and transformers models, with
defaults filled in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgekd.diffusion.components import SAVE_AGAIN
from edgekd.errors import InputError

_MAX_SIDE = 4096  # of latents: a picture of a gigapixel
_OTHER_CONDITIONS = (
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
)


def check_vae(vae: Any, is_sdxl: bool) -> None:
    """An RGB VAE whose scaling the stock pipeline undoes when it decodes.

    Raises:
        InputError: other channels, or a normalisation that the pipeline ignores.
    """
    if vae.in_channels != 3 or vae.out_channels != 3:
        raise InputError(
            "the VAE must read and write 3 channels",
            f"in_channels={vae.in_channels}, out_channels={vae.out_channels}",
        )
    if vae.get("upsampling_scaling_factor") is not None:
        _check_tiny_vae(vae)
    if not (_is_number(vae.scaling_factor) and vae.scaling_factor > 0):
        raise InputError("`scaling_factor > 0` must hold in the VAE", repr(vae.scaling_factor))
    ignored = ["shift_factor"] if is_sdxl else ["shift_factor", "latents_mean", "latents_std"]
    for field in ignored:
        if vae.get(field):
            raise InputError(
                f"`{field}` of the VAE must be null, this pipeline decodes without it",
                repr(vae[field]),
            )
    for field in ("latents_mean", "latents_std"):
        values = vae.get(field)
        if values is not None and not (
            isinstance(values, (list, tuple))
            and len(values) == vae.latent_channels
            and all(_is_number(value) for value in values)
        ):
            raise InputError(
                f"`{field}` of the VAE must have one number for each of its latent channels",
                f"{values!r}, latent_channels={vae.latent_channels}",
            )


def _check_tiny_vae(vae: Any) -> None:
    """Encoder and decoder of an `AutoencoderTiny` change the side by the factor that stock
    pipelines compute from the number of stages."""
    stages = len(vae.encoder_block_out_channels), len(vae.decoder_block_out_channels)
    if vae.upsampling_scaling_factor != 2 or stages[0] != stages[1]:
        raise InputError(
            "an AutoencoderTiny must have as many stages in its encoder as in its decoder, and "
            "`upsampling_scaling_factor` 2",
            f"{stages[0]} and {stages[1]} stages, factor {vae.upsampling_scaling_factor}",
        )


def check_latent_consistency(unet: Any, scheduler: Any) -> None:
    """What `LatentConsistencyModelPipeline` calls for: guidance as an input, and LCM's sampler.

    Raises:
        InputError: either is missing.
    """
    if unet.time_cond_proj_dim is None:
        raise InputError(
            "the U-Net of a LatentConsistencyModelPipeline must be conditioned on the guidance "
            "scale (`time_cond_proj_dim`)",
            "null",
            "Save it as a StableDiffusionPipeline.",
        )
    if type(scheduler).__name__ != "LCMScheduler":
        raise InputError(
            "the scheduler of a LatentConsistencyModelPipeline must be LCMScheduler",
            type(scheduler).__name__,
        )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def check_unet(unet: Any, vae: Any) -> None:
    """A text-to-image U-Net on the VAE's latents.

    Raises:
        InputError: other channels (an inpainting U-Net), other conditions, or no native size.
    """
    channels = f"in_channels={unet.in_channels}, latent_channels={vae.latent_channels}"
    if unet.in_channels == 2 * vae.latent_channels + 1:
        raise InputError(
            "the U-Net must be of a text-to-image model: `in_channels == latent_channels`",
            f"{channels} (an inpainting U-Net)",
        )
    if unet.in_channels != vae.latent_channels:
        raise InputError(
            "`in_channels` of the U-Net must equal `latent_channels` of the VAE", channels
        )
    if unet.out_channels != unet.in_channels:
        raise InputError(
            "`out_channels` of the U-Net must equal its `in_channels`",
            f"out_channels={unet.out_channels}, in_channels={unet.in_channels}",
        )
    for field in _OTHER_CONDITIONS:
        if unet.get(field) is not None:
            raise InputError(
                f"`{field}` of the U-Net must be null, it is conditioned by text alone",
                repr(unet[field]),
            )
    if not 1 <= side(unet.sample_size) <= _MAX_SIDE:
        raise InputError(
            f"`sample_size` of the U-Net must be up to {_MAX_SIDE}, one side of a square",
            repr(unet.sample_size),
        )


def side(sample_size: Any) -> int:
    """Side of a square latent sample, 0 for anything else."""
    if isinstance(sample_size, (list, tuple)) and len(sample_size) == 2:
        sample_size = sample_size[0] if sample_size[0] == sample_size[1] else 0
    return sample_size if type(sample_size) is int else 0


def check_text(unet: Any, encoders: Sequence[Any]) -> None:
    """The U-Net reads what the text encoders write; two encoders mean SDXL.

    Raises:
        InputError: the widths, or SDXL's added conditions, do not fit.
    """
    widths = [encoder.hidden_size for encoder in encoders]
    if unet.cross_attention_dim != sum(widths):
        raise InputError(
            "`cross_attention_dim` of the U-Net must equal "
            + ("the sum of both `hidden_size`" if len(widths) > 1 else "`hidden_size`")
            + " of text encoding",
            f"cross_attention_dim={unet.cross_attention_dim}, "
            f"hidden_size={' + '.join(map(str, widths))}",
            "The text encoder is of another model.",
        )
    embed_type = "text_time" if len(encoders) > 1 else None
    if unet.addition_embed_type != embed_type:
        raise InputError(
            f"`addition_embed_type` of the U-Net must be {embed_type or 'null'} in this pipeline",
            repr(unet.addition_embed_type),
        )
    if embed_type is None:
        return
    time_dim = unet.addition_time_embed_dim
    if not isinstance(time_dim, int):
        raise InputError(
            "`addition_time_embed_dim` of the U-Net must be an integer", repr(time_dim)
        )
    inputs = 6 * time_dim + encoders[-1].projection_dim
    if unet.projection_class_embeddings_input_dim != inputs:
        raise InputError(
            "`projection_class_embeddings_input_dim` of the U-Net must equal "
            f"6 * addition_time_embed_dim + projection_dim = {inputs}",
            repr(unet.projection_class_embeddings_input_dim),
        )


def check_tokenizer(names: tuple[str, str], tokenizer: Any, encoder: Any) -> None:
    """A tokenizer's ids and length fit its text encoder.

    Args:
        names: of the tokenizer and the text encoder.
        tokenizer: a loaded CLIP tokenizer.
        encoder: config of the text encoder.

    Raises:
        InputError: they are of different models, or the tokenizer cannot pad.
    """
    name, encoder_name = names
    ids = tokenizer.get_vocab().values()
    if not all(type(index) is int for index in ids):
        raise InputError(f"the ids of `{name}` must be integers", "something else", SAVE_AGAIN)
    largest = max(ids)
    if largest >= encoder.vocab_size:
        raise InputError(
            f"ids of `{name}` must be below `vocab_size` of `{encoder_name}`",
            f"largest id {largest}, vocab_size={encoder.vocab_size}",
            "The tokenizer is of another model.",
        )
    length, positions = tokenizer.model_max_length, encoder.max_position_embeddings
    # transformers fills in 1e30 where the tokenizer's config has no length.
    if not isinstance(length, int) or not 2 <= length <= positions:
        raise InputError(
            f"`model_max_length` of `{name}` must be an integer from 2 to "
            f"`max_position_embeddings` of `{encoder_name}`",
            f"{length!r} and {positions}",
        )
    if tokenizer.pad_token is None:
        raise InputError(f"`{name}` must have a `pad_token`", "none", SAVE_AGAIN)
    words = [token for token in tokenizer.added_tokens_decoder.values() if token.single_word]
    if words:
        raise InputError(
            f"added tokens of `{name}` must not be `single_word`, exports cannot obey it",
            repr(str(words[0])),
        )
    # The projected encoder takes its pooled state at the end token; 2 is the old mark for
    # "at the largest id". Nothing reads the pooled state of the other encoder.
    accepted = (2, tokenizer.eos_token_id)
    if encoder_name == "text_encoder_2" and encoder.eos_token_id not in accepted:
        raise InputError(
            f"`eos_token_id` of `{encoder_name}` must be the end token of `{name}`",
            f"{encoder.eos_token_id} and {tokenizer.eos_token_id}",
        )


def check_lengths(lengths: dict[str, int]) -> None:
    """Two tokenizers give sequences of one length, for their embeddings stand side by side.

    Raises:
        InputError: they do not.
    """
    if len(set(lengths.values())) > 1:
        raise InputError("both tokenizers must have the same `model_max_length`", str(lengths))
