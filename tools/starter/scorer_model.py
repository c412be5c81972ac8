"""The starter scorer's two towers, for training.

`edgekd.metrics.extractors.scorer` runs their exports.

A dual encoder as CLIP is (Radford et al., 2021, arXiv:2103.00020), on a frozen image trunk.

Shapes: N samples; I image inputs (pooled features, level means, thumbnail); L tokens; W text
width; D embedding. Both towers give [N,D] with rows of length 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD_ID = 0


class ImageTower(nn.Module):
    """Standardised inputs through a residual multi-layer perceptron."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: int, width: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.input = nn.Linear(inputs, width)
        self.hidden = nn.Sequential(
            nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.GELU()
        )
        self.output = nn.Linear(width, dimensions)
        self.dropout = nn.Dropout(dropout)

    def standardise(self, inputs: Tensor) -> None:
        """Fit the input's shift and scale to the training inputs [N,I]."""
        self.mean.copy_(inputs.mean(dim=0))
        self.scale.copy_(1 / inputs.std(dim=0).clamp(min=1e-3))

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.input(self.dropout((inputs - self.mean) * self.scale))
        return F.normalize(self.output(self.dropout(x + self.hidden(x))), dim=-1)


class TextLayer(nn.Module):
    """Pre-norm transformer layer; padding is never attended to."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x: [N,L,W]; bias: [N,1,1,L], very negative at padding."""
        split = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(dim=-1)
        x = x + self.dropout(self.projection((weights @ v).transpose(1, 2).flatten(2)))
        mixed: Tensor = x + self.dropout(self.mlp(x))
        return mixed


class TextTower(nn.Module):
    """Token and position embeddings, transformer layers, mean over the tokens."""

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int,
        heads: int,
        layers: int,
        dimensions: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.layers = nn.ModuleList(TextLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, dimensions)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids: [N,L], `PAD_ID` at the end."""
        mask = (input_ids != PAD_ID).float()
        bias = ((1 - mask) * -1e9)[:, None, None, :]
        x = self.dropout(self.tokens(input_ids) + self.positions)
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x) * mask[..., None]
        pooled = x.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return F.normalize(self.output(pooled), dim=-1)


def contrastive_loss(images: Tensor, texts: Tensor, log_scale: Tensor, also_true: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch (CLIP, figure 3).

    Args:
        images, texts: embeddings [N,D]; row i of both belongs together.
        log_scale: logarithm of the inverse temperature.
        also_true: [N,N] bool, captions (columns) that are true of images (rows) though they are
            another's; they are left out of the sums.
    """
    logits = images @ texts.T * log_scale.exp()
    own = torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(also_true & ~own, -1e4)
    targets = torch.arange(len(logits))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
