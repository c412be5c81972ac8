"""Attention as one ONNX operator.

Traced as it is, an attention becomes 30 nodes, most of which compute shapes, and holds all scores
[B,heads,S,L] at once. onnxruntime's own operator `com.microsoft.MultiHeadAttention` (in its CPU,
web and mobile builds) takes the three projections as they are and works block by block.

B batch, S tokens of the queries, L tokens of keys and values, D width of all heads together.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.libraries import diffusers

DOMAIN = "com.microsoft"
DOMAIN_VERSION = 1
OPERATOR = "MultiHeadAttention"


class _FusedAttention(torch.autograd.Function):
    """q [B,S,D], k [B,L,D], v [B,L,D] -> softmax(q k^T / sqrt(D / heads)) v, [B,S,D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        q, k, v = (item.reshape(*item.shape[:2], heads, -1).transpose(1, 2) for item in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(g: Any, q: Any, k: Any, v: Any, heads: int) -> Any:
        fused = g.op(f"{DOMAIN}::{OPERATOR}", q, k, v, num_heads_i=heads)
        return fused.setType(q.type())


class FusedAttentionProcessor:
    """diffusers' `AttnProcessor2_0` for the layers that `is_fusible` admits."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        residual = hidden_states
        if residual.ndim == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mixed: Tensor = _FusedAttention.apply(  # type: ignore[no-untyped-call]
            attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context), attn.heads
        )
        mixed = attn.to_out[0](mixed)
        if residual.ndim == 4:
            mixed = mixed.transpose(1, 2).reshape(residual.shape)
        if attn.residual_connection:
            mixed = mixed + residual
        return mixed if attn.rescale_output_factor == 1 else mixed / attn.rescale_output_factor


def is_fusible(attention: Any) -> bool:
    """Whether a layer is plain attention: no norms of queries and keys, no added projections, the
    usual scale, and the processor that diffusers gives every layer."""
    head_width = attention.inner_dim // attention.heads
    extras = (
        attention.spatial_norm,
        attention.norm_q,
        attention.norm_k,
        attention.norm_cross,
        attention.added_kv_proj_dim,
    )
    return (
        type(attention.processor).__name__ in ("AttnProcessor", "AttnProcessor2_0")
        and all(item is None for item in extras)
        and abs(attention.scale * head_width**0.5 - 1) < 1e-6
        and attention.inner_dim == attention.inner_kv_dim
    )


@contextlib.contextmanager
def fused_attention(module: nn.Module) -> Iterator[int]:
    """Trace the attention layers of a diffusers model as one operator each; gives their number."""
    # `diffusers` itself does not offer the class; `edgekd.libraries` has made it importable.
    attention = importlib.import_module(f"{diffusers.__name__}.models.attention_processor")
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, attention.Attention) and is_fusible(layer)
    ]
    processors = [layer.processor for layer in layers]
    fused = FusedAttentionProcessor()
    for layer in layers:
        layer.processor = fused
    try:
        yield len(layers)
    finally:
        for layer, processor in zip(layers, processors, strict=True):
            layer.processor = processor
