"""The phase `text_encoder`: text encoders of fewer layers learn their teacher's embeddings.

From captions alone, no picture is looked at; the empty caption is in every batch, since guidance
and dropped captions mean it. What is compared is what the pipeline takes of each encoder: the last
hidden state behind the final norm, of SDXL the last but one of both encoders and the second one's
pooled projection.

Shapes: B captions, L tokens, [B, L, D] embeddings, [B, P] pooled ones.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.encode import embed, tokenize
from edgekd.diffusion.load import Teacher
from edgekd.distill.lesson import Matching
from edgekd.distill.sampling import Sheet, spread_captions
from edgekd.distill.setup import PhaseSetup
from edgekd.distill.sources import Sources
from edgekd.distill.text_losses import angle, unexplained, variance
from edgekd.recipe_distill import DistillSection, PhaseName
from edgekd.student.build import DrawingPlan
from edgekd.student.text_depth import TEXT_ENCODERS, kept_layers
from edgekd.student.text_encoder import Layers, choose_layers, keep_layers
from edgekd.training.draws import sample_indices

# What learns. Embeddings of tokens stay: no caption has all of them, and weight decay would shrink
# those that none has.
_LEARNING = (".encoder.layers.", ".final_layer_norm.", "text_projection.")
# Share of the empty caption in the losses, as of captions that are dropped in training.
_EMPTY = 0.1


class TextEncoders(nn.Module):
    """A pipeline's text encoders as one module, so that several processes share its gradients."""

    def __init__(self, encoders: Sequence[Any], xl: bool) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleList(encoders)
        self._xl = xl

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """What the pipeline takes of each: hidden states, and pooled ones as of one token."""
        found: list[Tensor] = []
        for encoder, ids in zip(self.encoders, tokens, strict=True):
            hidden, pooled = embed(encoder, ids, self._xl)
            found += [hidden] if pooled is None else [hidden, pooled[:, None]]
        return found

    def save_pretrained(self, folder: Path, **options: Any) -> None:
        """Write each of them into a folder of the name that it has in a pipeline."""
        for name, encoder in zip(TEXT_ENCODERS, self.encoders, strict=False):
            encoder.save_pretrained(folder / name, **options)


class TextMatching(Matching):
    """Text encoders of fewer layers learn their teacher's embeddings.

    Args:
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `edgekd.student.text_depth.kept_layers`.
    """

    phase: PhaseName = "text_encoder"

    def __init__(self, section: DistillSection, sources: Sources, accelerator: Any) -> None:
        self._settings, self._teacher = section.text_encoder, sources.teacher
        self._setup = PhaseSetup.of(section, "text_encoder", sources, accelerator)
        xl = sources.teacher.info.family == "sdxl"
        self._taught = TextEncoders(sources.teacher.text_encoders, xl)
        self._held_out = spread_captions(sources.validation, self._settings.validation_samples)
        looked_at = [*spread_captions(sources.train, self._setup.plan.step_samples), ""]
        self.layers = pick_layers(sources.teacher, self._settings.depth, looked_at)
        with torch.no_grad():
            found = self._taught(tokenize(sources.teacher, looked_at))
        self._spreads = [variance(one.float()) for one in found]
        pairs = zip(sources.teacher.text_encoders, self.layers, strict=True)
        pruned = [copy.deepcopy(keep_layers(encoder, layers)) for encoder, layers in pairs]
        self.model: nn.Module = TextEncoders(pruned, xl)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(any(part in name for part in _LEARNING))
        if xl:  # nothing is read of the first one behind its last but one layer
            first = pruned[0].text_model
            for unread in (first.encoder.layers[-1], first.final_layer_norm):
                unread.requires_grad_(False)
        own = {"embeddings": 1.0, "cosine": self._settings.cosine}
        self._weights = {name: weight for name, weight in own.items() if weight > 0}
        self._wrapped: nn.Module = self.model
        drawn = DrawingPlan(sources.teacher.scheduler, section.sample_steps, section.guidance_scale)
        self._sheet = self._setup.sheet(drawn, drawn)

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`."""
        del update
        setup, train = self._setup, self._setup.sources.train
        rows = sample_indices(setup.section.seed, setup.positions(step, micro), len(train))
        tokens = tokenize(self._teacher, [*(train.captions(int(i)) for i in rows), ""])
        with setup.autocasting():
            with torch.no_grad():
                target = self._taught(tokens)
            ours = self._wrapped(tokens)
        found = compare(ours, target, self._spreads, self._weights)
        return {
            name: (1 - _EMPTY) * values[:-1].mean() + _EMPTY * values[-1]
            for name, values in found.items()
        }

    @torch.no_grad()
    def validate(self, model: Any) -> dict[str, float]:
        """Agreement with the teacher on different held-out captions and the empty one, in fp32."""
        rows: dict[str, list[Tensor]] = {"embeddings": [], "cosine": []}
        captions, size = [*self._held_out, ""], self._settings.batch_size
        for first in range(0, len(captions), size):
            tokens = tokenize(self._teacher, captions[first : first + size])
            found = compare(model(tokens), self._taught(tokens), self._spreads, rows)
            for name, values in found.items():
                rows[name].append(values)
        return {f"validation_{name}": float(torch.cat(rows[name]).mean()) for name in rows}

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        explained, cosine = (1 - losses[f"validation_{one}"] for one in ("embeddings", "cosine"))
        return f"{explained:.1%} of the embeddings' variance explained, cosine {cosine:.4f}"

    def draw(self, model: Any, last: bool) -> Sheet:
        """The teacher's pictures above those that its U-Net draws of the student's embeddings."""
        del last
        return self._sheet.draw(self._teacher.unet, tuple(model.encoders))


def compare(
    ours: Sequence[Tensor],
    target: Sequence[Tensor],
    spreads: Sequence[Tensor],
    names: Collection[str],
) -> dict[str, Tensor]:
    """These losses of each caption [B], the mean over what the pipeline takes, in fp32."""
    triples = [(a.float(), b.float(), c) for a, b, c in zip(ours, target, spreads, strict=True)]
    found: dict[str, list[Tensor]] = {
        "embeddings": [unexplained(*triple) for triple in triples],
        "cosine": [angle(a, b) for a, b, _ in triples],
    }
    return {name: torch.stack(found[name]).mean(dim=0) for name in names}


@torch.no_grad()
def pick_layers(teacher: Teacher, depth: float, captions: Sequence[str]) -> tuple[Layers, ...]:
    """Which layers of each text encoder stay, as the embeddings of these captions say."""
    tokens, xl = tokenize(teacher, captions), teacher.info.family == "sdxl"
    pairs = zip(teacher.text_encoders, tokens, strict=True)
    return tuple(_pick(encoder, ids, depth, xl) for encoder, ids in pairs)


def _pick(encoder: Any, tokens: Tensor, depth: float, xl: bool) -> Layers:
    target = TextEncoders([encoder], xl)([tokens])
    spreads = [variance(one) for one in target]

    def error(kept: Layers) -> float:
        found = TextEncoders([keep_layers(encoder, kept)], xl)([tokens])
        return float(compare(found, target, spreads, ("embeddings",))["embeddings"].mean())

    layers = int(encoder.config.num_hidden_layers)
    # SDXL reads what comes before the last layer.
    fixed = (layers - 1,) if xl else ()
    return choose_layers(layers, kept_layers(layers, depth, xl), error, fixed)
