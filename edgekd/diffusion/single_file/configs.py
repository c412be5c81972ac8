"""Configs of a checkpoint's parts, from the shapes of its tensors.

What shapes cannot tell (activations, heads, the scale of latents) is the same in all models of a
family: facts of the published configs of stable-diffusion-v1-5, stable-diffusion-2-1 and
stable-diffusion-xl-base-1.0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.diffusion.single_file.checkpoint import shape_of
from edgekd.diffusion.validate import Family, Prediction
from edgekd.diffusion.weights import StoredTensor
from edgekd.errors import InputError

Tensors = Mapping[str, StoredTensor]
Config = dict[str, Any]

_HEAD_WIDTH = 64  # of all text encoders, and of the U-Nets of SD 2 and XL
_SD1_HEADS = 8
_LATENT_SCALES: Mapping[Family, float] = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
BOS, EOS = 49406, 49407  # of CLIP's vocabulary
_MAX_BLOCKS = 64  # of an encoder or a U-Net: far above any


@dataclass(frozen=True)
class Level:
    """One resolution of a U-Net.

    Attributes:
        depths: transformer blocks of each layer; 0: it does not attend.
    """

    channels: int
    depths: tuple[int, ...]

    @property
    def attends(self) -> bool:
        return any(self.depths)

    @property
    def depth(self) -> int | list[int]:
        """As `transformer_layers_per_block` gives it, which may not be 0."""
        depths = [max(1, depth) for depth in self.depths]
        return depths[0] if len(set(depths)) == 1 else depths


def unet_config(tensors: Tensors, family: Family) -> Config:
    """Config of a U-Net but for its size, by its tensors in the original layout, no prefix.

    They are numbered without holes: see `numbering`.
    """
    levels = _levels(tensors)
    layers = {len(level.depths) for level in levels}
    widths = [level.channels for level in levels]
    if len(layers) > 1:
        raise InputError("all levels of the U-Net must have as many layers", str(sorted(layers)))
    ups = _up_levels(tensors, levels)
    text = next((name for name in tensors if name.endswith(".attn2.to_k.weight")), "attn2.to_k")
    project = next((name for name in tensors if name.endswith(".proj_in.weight")), "")
    down = ["CrossAttnDownBlock2D" if level.attends else "DownBlock2D" for level in levels]
    up = ["CrossAttnUpBlock2D" if level.attends else "UpBlock2D" for level in ups]
    config: Config = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shape_of(tensors, "input_blocks.0.0.weight", 4)[1],
        "out_channels": shape_of(tensors, "out.2.weight", 4)[0],
        "block_out_channels": widths,
        "layers_per_block": layers.pop(),
        "down_block_types": down,
        "up_block_types": up,
        "transformer_layers_per_block": [level.depth for level in levels],
        "cross_attention_dim": shape_of(tensors, text, 2)[1],
        "use_linear_projection": bool(project) and len(tensors[project].shape) == 2,
        "attention_head_dim": _SD1_HEADS
        if family == "sd1"
        else [max(1, width // _HEAD_WIDTH) for width in widths],
        **_mid(tensors),
    }
    # The decoder's depths are the encoder's where nothing else is said.
    if [level.depth for level in ups if level.attends] != [
        level.depth for level in reversed(levels) if level.attends
    ]:
        config["reverse_transformer_layers_per_block"] = [level.depth for level in ups]
    if family == "sd2":
        # Its attention passes the range of fp16 (stable-diffusion-2-1's own config).
        config["upcast_attention"] = True
    if family == "sdxl":
        inputs = shape_of(tensors, "label_emb.0.0.weight", 2)[1]
        config |= {
            "addition_embed_type": "text_time",
            "projection_class_embeddings_input_dim": inputs,
        }
    return config


def _mid(tensors: Tensors) -> Config:
    """The mid block, where it is not the usual one: none, or one residual block (SSD-1B)."""
    if not any(name.startswith("middle_block.") for name in tensors):
        return {"mid_block_type": None}
    whole = any(name.startswith("middle_block.1.") for name in tensors)
    return {} if whole else {"mid_block_type": "UNetMidBlock2D"}


def _levels(tensors: Tensors) -> list[Level]:
    """Levels of the encoder: each ends where a downsampling stands instead of a layer."""
    levels: list[Level] = []
    channels: int = 0
    depths: list[int] = []
    for index in range(1, _count(tensors, r"input_blocks\.(\d+)\.")):
        block = f"input_blocks.{index}."
        if f"{block}0.op.weight" in tensors:
            levels.append(Level(channels, tuple(depths)))
            channels, depths = 0, []
            continue
        channels = shape_of(tensors, f"{block}0.in_layers.2.weight", 4)[0]
        depths.append(_depth(tensors, block))
    return [*levels, Level(channels, tuple(depths))]


def _up_levels(tensors: Tensors, levels: list[Level]) -> list[Level]:
    """Levels of the decoder, in its order: each has one layer more than the encoder's."""
    found, index = [], 0
    for level in reversed(levels):
        blocks = [f"output_blocks.{index + i}." for i in range(len(level.depths) + 1)]
        found.append(Level(level.channels, tuple(_depth(tensors, block) for block in blocks)))
        index += len(blocks)
    return found


def _depth(tensors: Tensors, block: str) -> int:
    return _count(tensors, rf"{re.escape(block)}1\.transformer_blocks\.(\d+)\.")


def vae_config(tensors: Tensors, family: Family, sample_size: int) -> Config:
    """Config of a VAE, by its tensors in the original layout without prefix."""
    stages = _count(tensors, r"encoder\.down\.(\d+)\.")
    widths = [
        shape_of(tensors, f"encoder.down.{stage}.block.0.conv1.weight", 4)[0]
        for stage in range(stages)
    ]
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": sample_size,
        "in_channels": shape_of(tensors, "encoder.conv_in.weight", 4)[1],
        "out_channels": shape_of(tensors, "decoder.conv_out.weight", 4)[0],
        "latent_channels": shape_of(tensors, "post_quant_conv.weight", 4)[0],
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
        "layers_per_block": _count(tensors, r"encoder\.down\.0\.block\.(\d+)\."),
        "scaling_factor": _LATENT_SCALES[family],
    }


def clip_config(tensors: Tensors) -> Config:
    """Config of CLIP's text encoder in transformers' layout, without prefix."""
    names = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    width = shape_of(names, "embeddings.token_embedding.weight", 2)[1]
    return {
        "architectures": ["CLIPTextModel"],
        "hidden_act": "quick_gelu",
        "vocab_size": names["embeddings.token_embedding.weight"].shape[0],
        "num_hidden_layers": _count(names, r"encoder\.layers\.(\d+)\."),
        "intermediate_size": shape_of(names, "encoder.layers.0.mlp.fc1.weight", 2)[0],
        "max_position_embeddings": shape_of(names, "embeddings.position_embedding.weight", 2)[0],
        "projection_dim": width,
        **_text_facts(width),
    }


def open_clip_config(tensors: Tensors) -> Config:
    """Config of an OpenCLIP text encoder in its own layout, without prefix."""
    width = shape_of(tensors, "token_embedding.weight", 2)[1]
    projected = "text_projection" in tensors
    return {
        "architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"],
        "hidden_act": "gelu",
        "vocab_size": tensors["token_embedding.weight"].shape[0],
        "num_hidden_layers": resblocks(tensors),
        "intermediate_size": shape_of(tensors, "transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "max_position_embeddings": shape_of(tensors, "positional_embedding", 2)[0],
        "projection_dim": shape_of(tensors, "text_projection", 2)[1] if projected else width,
        **_text_facts(width),
    }


def _text_facts(width: int) -> Config:
    return {
        "model_type": "clip_text_model",
        "hidden_size": width,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }


def resblocks(tensors: Collection[str]) -> int:
    """Layers of an OpenCLIP text encoder."""
    return _count(tensors, r"transformer\.resblocks\.(\d+)\.")


def _count(names: Collection[str], pattern: str) -> int:
    """One more than the largest number that stands in a pattern's place at a name's beginning."""
    found = [int(match[1]) for name in names if (match := re.match(pattern, name))]
    count = max(found, default=-1) + 1
    if count > _MAX_BLOCKS:
        raise InputError(
            f"a checkpoint must have at most {_MAX_BLOCKS} layers in a row", str(count)
        )
    return count


def scheduler_config(family: Family, prediction: Prediction, zero_snr: bool) -> Config:
    """The sampler that a checkpoint is drawn with: its noise schedule is its family's.

    Zero terminal SNR needs the last timestep and its own betas (Lin et al. 2023).
    """
    config: Config = {
        "_class_name": "EulerDiscreteScheduler" if family == "sdxl" else "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "steps_offset": 1,
        "timestep_spacing": "trailing" if zero_snr else "leading",
        "rescale_betas_zero_snr": zero_snr,
    }
    if family != "sdxl":
        config |= {"clip_sample": False, "set_alpha_to_one": False}
    return config
