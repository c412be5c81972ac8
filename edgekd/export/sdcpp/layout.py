"""From diffusers' names to those of the original layout, as stable-diffusion.cpp numbers it.

A level of the U-Net has three numbers, whatever it has in layers; what `edgekd import` reads is the
same layout: see `edgekd.diffusion.single_file.numbering`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from edgekd.diffusion.single_file.numbering import LEVEL

State = dict[str, Tensor]

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_VAE = (
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    ("down_blocks", "down"),
    ("downsamplers.0", "downsample"),
    ("upsamplers.0", "upsample"),
    ("resnets", "block"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
    ("group_norm", "norm"),
    ("to_out.0", "proj_out"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
)
_OPEN_CLIP = (
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
)
_IN_PROJECTION = re.compile(r"text_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.(\w+)")


def unet_name(name: str, layers: int, attends: tuple[bool, ...]) -> str:
    """A U-Net's tensor in the original layout.

    Args:
        layers: of each level of the encoder.
        attends: whether each level of the decoder does, innermost first.
    """
    if match := _BLOCK.fullmatch(name):
        side, level, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        if kind == "downsamplers":
            return f"input_blocks.{LEVEL * (level + 1)}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            # Beside the layer before it, or alone in the number that a level without it has left.
            place = 2 if attends[level] and not (layers < LEVEL - 1 and level == 0) else 1
            return f"output_blocks.{LEVEL * level + LEVEL - 1}.{place}.{rest}"
        number = LEVEL * level + index
        block = f"input_blocks.{number + 1}" if side == "down" else f"output_blocks.{number}"
        return f"{block}.{_layer(kind, rest)}"
    if match := _MID.fullmatch(name):
        place = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{place}.{_inner(match[1], match[3])}"
    stem, _, leaf = name.rpartition(".")
    return f"{_ENDS[stem]}.{leaf}"


def _layer(kind: str, rest: str) -> str:
    return f"{1 if kind == 'attentions' else 0}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    stem, _, leaf = rest.rpartition(".")
    return f"{_RESIDUAL[stem]}.{leaf}"


def vae_state(state: Mapping[str, Tensor], levels: int) -> State:
    """An `AutoencoderKL`. Its attention's linear layers are convolutions of one pixel there."""
    found: State = {}
    for name, value in state.items():
        new = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", name)
        for theirs, ours in _VAE:
            new = re.sub(rf"(?<!\w){re.escape(theirs)}(?!\w)", ours, new)
        flat = ".attn_1." in new and value.ndim == 2
        found[new] = value[..., None, None] if flat else value
    return found


def clip_state(state: Mapping[str, Tensor]) -> State:
    """A text encoder in transformers' own layout, which is the original one of CLIP ViT-L."""
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}


def open_clip_state(state: Mapping[str, Tensor]) -> State:
    """A text encoder in OpenCLIP's layout, whose queries, keys and values are one matrix."""
    found: State = {}
    for name, value in clip_state(state).items():
        if match := _IN_PROJECTION.fullmatch(name):
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            target = f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"
            found[target] = torch.cat(parts)
        elif name == "text_projection.weight":
            found["text_projection"] = value.T
        elif ".k_proj." not in name and ".v_proj." not in name:
            for theirs, ours in _OPEN_CLIP:
                name = name.replace(theirs, ours)
            found[name] = value
    return found
