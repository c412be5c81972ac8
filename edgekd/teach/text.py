"""Second stage of a teacher: the text encoder, taught to match captions to image features.

Loss: symmetric InfoNCE (CLIP, Radford et al. 2021, arXiv:2103.00020) against
features of a fixed image network. A caption often describes several images of
a batch (another style of the same thing, where no style is said): the target is
uniform over all that fit, as in supervised contrastive learning (Khosla et al.
2020, arXiv:2004.11362).

Shapes: B captions and images, features [B,1280], embeddings [B,E].
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.files import write_text
from edgekd.metrics.efficientnet import POOLED_CHANNELS
from edgekd.processes.scratch import scratch_folder
from edgekd.resources import STARTER, STARTER_NAME
from edgekd.teach.cache import Encoder, Half
from edgekd.teach.data import (
    Placement,
    Subject,
    cached_variant,
    draw_caption,
    generator,
    plain_caption,
    render,
    sample_indices,
    to_batch,
)
from edgekd.teach.loop import Step, Task
from edgekd.teach.recipe import TextSection
from edgekd.teach.setup import TeachSetup
from edgekd.teach.vae import validation_rows

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LOGIT_SCALE = 100.0


def build_tokenizer(section: TextSection) -> Any:
    """A `CLIPTokenizer` with the first merges of another one.

    CLIP's vocabulary is the 256 bytes, the same at a word's end, one token per
    merge, and two special tokens: it follows from the merges.

    Raises:
        InputError: the folder holds no CLIP merges.
    """
    from edgekd.libraries import transformers

    root = STARTER / "teacher" / "tokenizer" if section.tokenizer == STARTER_NAME else None
    path = (root or Path(section.tokenizer)) / "merges.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError("`text.tokenizer` must be a CLIPTokenizer folder", str(path)) from None
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in merges):
        raise InputError("each line of `merges.txt` must hold two tokens", str(path))
    merges = merges[: section.merges]
    symbols = list(_byte_symbols())
    tokens = [*symbols, *(f"{s}</w>" for s in symbols), *("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    with scratch_folder() as folder:
        write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
        text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
        write_text(folder / "merges.txt", text + "\n")
        return transformers.CLIPTokenizer(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            unk_token=END,
            pad_token=END,
            model_max_length=section.max_tokens,
        )


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins of the 256 byte values, in CLIP's order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(rest))]


def build_text_encoder(section: TextSection, tokenizer: Any, seed: int) -> Any:
    """A `CLIPTextModel` for this tokenizer with seeded random weights."""
    from edgekd.libraries import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=section.hidden_size,
        intermediate_size=4 * section.hidden_size,
        projection_dim=section.hidden_size,
        num_hidden_layers=section.layers,
        num_attention_heads=section.heads,
        max_position_embeddings=section.max_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.CLIPTextModel(config)


class ImageHeads(nn.Module):
    """What only the contrastive stage needs: both projections and the logit scale."""

    def __init__(self, section: TextSection, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = section.embedding_size
            self.text = nn.Linear(section.hidden_size, size, bias=False)
            self.image = nn.Sequential(
                nn.LayerNorm(POOLED_CHANNELS),
                nn.Linear(POOLED_CHANNELS, 2 * size),
                nn.GELU(),
                nn.Linear(2 * size, size),
            )
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, pooled: Tensor, features: Tensor) -> Tensor:
        """Logits [B,B]: row a caption, column an image."""
        text = F.normalize(self.text(pooled), dim=1)
        image = F.normalize(self.image(features), dim=1)
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE) * text @ image.T


class Described(NamedTuple):
    """What a caption says, or an image is; `style` "" in a caption: none said."""

    label: str
    style: str
    background: str


def fits(captions: list[Described], images: list[Described]) -> Tensor:
    """Boolean [B,B]: does caption i describe image j?"""

    def column(items: list[Described], field: int) -> Any:
        return np.array([item[field] for item in items])

    styles = column(captions, 1)[:, None]
    result = column(captions, 0)[:, None] == column(images, 0)[None]
    result &= (styles == column(images, 1)[None]) | (styles == "")
    result &= column(captions, 2)[:, None] == column(images, 2)[None]
    return torch.from_numpy(result)


def contrastive_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean of both directions' cross entropy to the uniform distribution over positives.

    Args:
        logits: [B,B].
        positive: boolean [B,B], the diagonal true.
    """
    target = positive.to(logits.dtype)

    def direction(values: Tensor, weights: Tensor) -> Tensor:
        weights = weights / weights.sum(dim=1, keepdim=True)
        return -(weights * values.log_softmax(dim=1)).sum(dim=1).mean()

    return 0.5 * (direction(logits, target) + direction(logits.T, target.T))


@dataclass(frozen=True)
class TextModel:
    """A text encoder with its tokenizer."""

    encoder: Any
    tokenizer: Any


def tokenize(tokenizer: Any, captions: list[str], padding: str = "max_length") -> Tensor:
    """Token numbers [B,L]; `padding="longest"` saves work where only the pooled output counts."""
    batch = tokenizer(captions, padding=padding, truncation=True, return_tensors="pt")
    ids: Tensor = batch.input_ids
    return ids


def make_text_task(
    setup: TeachSetup, features: Half, encode_features: Encoder, tokenizer: Any
) -> Task:
    """The contrastive task. `features` [N,V,1280] belong to the training subjects' renderings."""
    recipe, corpus, device = setup.recipe, setup.corpus, setup.device
    section = recipe.text
    encoder = build_text_encoder(section, tokenizer, recipe.seed).to(device).train()
    heads = ImageHeads(section, recipe.seed).to(device)
    checks = validation_rows(corpus, recipe, section.train.validation_samples)
    held_out = [corpus.validation[row] for row in checks]
    held_out_features = _plain_features(held_out, encode_features)

    def loss(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        captions, said, shown, rows = [], [], [], []
        indices = sample_indices(recipe.seed, "text", step.positions, len(corpus.train))
        for index, position in zip(indices.tolist(), step.positions.tolist(), strict=True):
            rng = generator(recipe.seed, "text-sample", position)
            number = int(rng.integers(recipe.data.augment.variants))
            subject = corpus.train[index]
            variant = cached_variant(subject, recipe.data.augment, recipe.seed, index, number)
            caption = draw_caption(subject, variant.background, recipe.data.captions, rng)
            captions.append(caption.text)
            said.append(Described(subject.label, caption.style, variant.background))
            shown.append(Described(subject.label, subject.style, variant.background))
            rows.append(features[index, number])
        ids = tokenize(tokenizer, captions, "longest").to(device)
        images = torch.from_numpy(np.stack(rows)).float().to(device)
        with setup.autocast():
            logits = heads(encoder(ids).pooler_output, images).float()
        positive = fits(said, shown).to(device)
        hits = positive.gather(1, logits.argmax(dim=1, keepdim=True)).float().mean()
        return contrastive_loss(logits, positive), {"batch_r1": hits}

    def validate(averaged: dict[str, nn.Module]) -> dict[str, float]:
        return _validate(averaged, held_out, held_out_features, tokenizer, device)

    modules: dict[str, nn.Module] = {"text_encoder": encoder, "heads": heads}
    rates = dict.fromkeys(modules, section.train.learning_rate)
    return Task("text", modules, rates, loss, validate)


@torch.no_grad()
def _plain_features(subjects: list[Subject], encode_features: Encoder) -> Tensor:
    images = [render(subject, Placement("white"), {}) for subject in subjects]
    parts = [encode_features(to_batch(images[i : i + 16])) for i in range(0, len(images), 16)]
    return torch.cat(parts)


@torch.no_grad()
def _validate(
    averaged: dict[str, nn.Module],
    subjects: list[Subject],
    features: Tensor,
    tokenizer: Any,
    device: torch.device,
) -> dict[str, float]:
    """Loss, and retrieval among the held-out images apart for known and for unseen labels."""
    result = {}
    for kind in ("image", "group"):
        rows = [row for row, subject in enumerate(subjects) if subject.split == kind]
        if not rows:
            continue
        known = [Described(subjects[r].label, subjects[r].style, "white") for r in rows]
        captions = [plain_caption(subjects[r]) for r in rows]
        pooled: Any = averaged["text_encoder"](tokenize(tokenizer, captions).to(device))
        logits = averaged["heads"](pooled.pooler_output, features[rows])
        positive = fits(known, known).to(device)
        hits = positive.gather(1, logits.argmax(dim=1, keepdim=True)).float().mean()
        result[f"validation_{kind}_r1"] = float(hits)
        if "validation_loss" not in result:
            result["validation_loss"] = float(contrastive_loss(logits, positive))
    return result
