"""Graphs as torch modules with seeded random weights.

B batch, c channels, h/w height and width, L text tokens, D text width, T time embedding.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.libraries import diffusers, transformers
from edgekd.search.blocks import Block, BlockKind
from edgekd.search.graphs import Graph, GraphKind

# diffusers loads its modules when they are asked for, by their full names alone.
_resnet: Any = importlib.import_module("diffusers.models.resnet")
_embeddings: Any = importlib.import_module("diffusers.models.embeddings")

_SEED = 0
_TIMESTEP = 500.0


@dataclass(frozen=True)
class BuiltGraph:
    """A graph, ready to be converted.

    Attributes:
        model: a block takes its inputs by position; the others are the pipeline's own models.
        inputs: one call's, by the names that exports use.
    """

    model: nn.Module
    inputs: dict[str, Tensor]


def build(graph: Graph) -> BuiltGraph:
    """Make a graph's model and one call of it; the same graph gives the same numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        if graph.block is not None:
            model: nn.Module = _MODULES[graph.block.kind](graph.block)
            inputs = _block_inputs(graph.block, graph.batch)
        else:
            model = _MODELS[graph.kind](graph.config)
            inputs = _INPUTS[graph.kind](graph, model.config)
    return BuiltGraph(model.eval().requires_grad_(False), inputs)


class ResidualModule(nn.Module):
    """sample [B,c,h,w], timestep [] or [B] -> [B,c',h,w]. It stands in for its embedding."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.time = block.condition
        self.residual = _resnet.ResnetBlock2D(
            in_channels=block.inputs,
            out_channels=block.outputs,
            temb_channels=block.condition,
            groups=block.groups,
        )

    def forward(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor]:
        time = timestep.reshape(-1, 1).expand(sample.shape[0], self.time)
        return (self.residual(sample, time),)


class TransformerModule(nn.Module):
    """sample [B,c,h,w], encoder_hidden_states [B,L,D] -> [B,c,h,w]."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.transformer = diffusers.Transformer2DModel(
            num_attention_heads=block.heads,
            attention_head_dim=block.inputs // block.heads,
            in_channels=block.inputs,
            num_layers=block.depth,
            cross_attention_dim=block.condition,
            norm_num_groups=block.groups,
            use_linear_projection=block.linear,
        )

    def forward(self, sample: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor]:
        result = self.transformer(sample, encoder_hidden_states, return_dict=False)
        return (result[0],)


class SamplerModule(nn.Module):
    """sample [B,c,h,w] -> half or twice the side."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        name = "Downsample2D" if block.kind == "downsampler" else "Upsample2D"
        kind = getattr(_resnet, name)
        self.sampler = kind(block.inputs, use_conv=True, out_channels=block.outputs)

    def forward(self, sample: Tensor) -> tuple[Tensor]:
        return (self.sampler(sample),)


class StemModule(nn.Module):
    """sample [B,c,h,w], timestep [] or [B] -> [B,c',h,w] and the time embedding [B,T]."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        width = block.outputs
        self.conv_in = nn.Conv2d(block.inputs, width, block.kernel, padding=block.kernel // 2)
        self.time_proj = _embeddings.Timesteps(width, True, 0)
        self.time_embedding = _embeddings.TimestepEmbedding(width, block.condition)

    def forward(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        time = self.time_proj(timestep.reshape(-1).expand(sample.shape[0]))
        return self.conv_in(sample), self.time_embedding(time)


class HeadModule(nn.Module):
    """sample [B,c,h,w] -> the U-Net's output."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv_norm_out = nn.GroupNorm(block.groups, block.inputs)
        pad = block.kernel // 2
        self.conv_out = nn.Conv2d(block.inputs, block.outputs, block.kernel, padding=pad)

    def forward(self, sample: Tensor) -> tuple[Tensor]:
        return (self.conv_out(nn.functional.silu(self.conv_norm_out(sample))),)


_MODULES: dict[BlockKind, Callable[[Block], nn.Module]] = {
    "residual": ResidualModule,
    "transformer": TransformerModule,
    "downsampler": SamplerModule,
    "upsampler": SamplerModule,
    "stem": StemModule,
    "head": HeadModule,
}


def _block_inputs(block: Block, batch: int) -> dict[str, Tensor]:
    inputs = {"sample": torch.randn(batch, block.inputs, block.height, block.width)}
    if block.kind in ("residual", "stem"):
        inputs["timestep"] = torch.tensor(_TIMESTEP)
    if block.kind == "transformer":
        inputs["encoder_hidden_states"] = torch.randn(batch, block.tokens, block.condition)
    return inputs


def _unet_inputs(graph: Graph, config: Any) -> dict[str, Tensor]:
    batch = graph.batch
    inputs = {
        "sample": torch.randn(batch, config.in_channels, *graph.latent_size),
        "timestep": torch.tensor(_TIMESTEP),
        "encoder_hidden_states": torch.randn(batch, graph.tokens, config.cross_attention_dim),
    }
    if config.time_cond_proj_dim is not None:
        inputs["timestep_cond"] = torch.randn(batch, config.time_cond_proj_dim)
    if config.addition_embed_type is not None:
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        inputs["text_embeds"] = torch.randn(batch, pooled)
        inputs["time_ids"] = torch.zeros(batch, 6)
    return inputs


def _decoder_inputs(graph: Graph, config: Any) -> dict[str, Tensor]:
    shape = (graph.batch, config.latent_channels, *graph.latent_size)
    return {"latent_sample": torch.randn(shape)}


def _text_inputs(graph: Graph, config: Any) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, config.vocab_size, (graph.batch, graph.tokens))}


def _text_model(name: str) -> Callable[[Any], nn.Module]:
    def make(config: Any) -> nn.Module:
        model: nn.Module = getattr(transformers, name)(
            transformers.CLIPTextConfig.from_dict(config)
        )
        return model

    return make


_MODELS: dict[GraphKind, Callable[[Any], Any]] = {
    "unet": lambda config: diffusers.UNet2DConditionModel.from_config(config),
    "vae_decoder": lambda config: diffusers.AutoencoderKL.from_config(config),
    "text_encoder": _text_model("CLIPTextModel"),
    "text_encoder_2": _text_model("CLIPTextModelWithProjection"),
}
_INPUTS: dict[GraphKind, Callable[[Graph, Any], dict[str, Tensor]]] = {
    "unet": _unet_inputs,
    "vae_decoder": _decoder_inputs,
    "text_encoder": _text_inputs,
    "text_encoder_2": _text_inputs,
}
