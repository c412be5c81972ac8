"""The phase `decoder`: a narrow VAE learns to decode and to encode as its teacher does.

In the manner of TAESD, but from the teacher's own pictures: the target is what the frozen VAE
decodes from the same latents, sampled ones of images and, where there are any, those of drawn
pictures, which are what it will decode. No adversarial term: against such a target there is no
detail that the latents do not hold, and the validation tells whether any is lost to blur.

Shapes: B batch, [B, C, h, w] latents, [B, 3, H, W] pictures in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgekd.distill.decoder_latents import DecoderLatents, GeneratedLatents
from edgekd.distill.decoder_losses import feature_distance, pixel_distance
from edgekd.distill.lesson import Matching
from edgekd.distill.narrow_vae import NarrowVae, first_vae
from edgekd.distill.sampling import Pixels, Sheet, grid
from edgekd.distill.setup import PhaseSetup
from edgekd.distill.sources import Sources
from edgekd.metrics.efficientnet import load_trunk
from edgekd.recipe_distill import DistillSection, PhaseName
from edgekd.training.draws import BatchPlan
from edgekd.training.images import laplacian_energy, psnr_db

# One picture of so many in a step is encoded: the encoder is near its teacher from the start.
ENCODED = 4
_DECODER = ("vae.decoder.", "vae.post_quant_conv.")
SHOWN = 8


class Generated(Protocol):
    """Drawn latents of both splits."""

    @property
    def train(self) -> GeneratedLatents: ...
    @property
    def validation(self) -> GeneratedLatents: ...


@dataclass(frozen=True)
class _Agreement:
    """Of a narrow VAE with its teacher; see `DecoderMatching.validate`."""

    psnr_db: float
    sharpness: float
    moments: float


class DecoderMatching(Matching):
    """A narrow VAE learns its teacher's pictures and moments.

    Args:
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `first_vae`.
    """

    phase: PhaseName = "decoder"

    def __init__(
        self,
        section: DistillSection,
        sources: Sources,
        generated: Generated | None,
        accelerator: Any,
    ) -> None:
        settings, teacher = section.decoder, sources.teacher.vae
        self._teacher, self._settings = teacher, settings
        self._setup = PhaseSetup.of(section, "decoder", sources, accelerator)
        made = (teacher.config, settings.generated, settings.crop)
        train, held_out = (generated.train, generated.validation) if generated else (None, None)
        self._train = DecoderLatents(sources.train, train, *made)
        self._held_out = DecoderLatents(sources.validation, held_out, *made)
        self._narrow = first_vae(section, teacher, self._train.means)
        self.model: nn.Module = self._narrow
        self._weights = {
            name: weight
            for name, weight in (
                ("pixels", 1.0),
                ("perceptual", settings.perceptual),
                ("moments", settings.moments),
            )
            if weight > 0
        }
        if "moments" not in self._weights:
            # Several processes must agree on which weights get gradients.
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name.startswith(_DECODER))
        self._trunk = load_trunk().to(teacher.device)
        self._wrapped: nn.Module = self.model

    def terms(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """See `Lesson`."""
        del update
        setup = self._setup
        positions = setup.positions(step, micro)
        latents = self._train.training(setup.section.seed, positions).to(self._teacher.device)
        rows, share = encoded_rows(positions, setup.plan)
        with setup.autocasting():
            with torch.no_grad():
                target = self._teacher.decode(latents).sample
                shown = target[rows] if "moments" in self._weights else None
                expected = None if shown is None else self._narrow.expected(self._teacher, shown)
            pictures, ours = self._wrapped(latents, shown)
        terms = {"pixels": pixel_distance(pictures.float(), target.float())}
        if ours is not None and expected is not None:
            terms["moments"] = share * self._narrow.distance(ours.float(), expected.float()).sum()
        if "perceptual" in self._weights:
            terms["perceptual"] = feature_distance(self._trunk, pictures.float(), target.float())
        return terms

    @torch.no_grad()
    def validate(self, model: Any) -> dict[str, float]:
        """Agreement with the teacher on held-out latents, in fp32.

        Returns:
            `validation_psnr_db` of decoded images; `validation_generated_psnr_db` of drawn
            pictures, where there are any; `validation_sharpness`, the high frequencies of decoded
            images over the teacher's (`laplacian_energy`); `validation_moments` of what the
            teacher decoded.
        """
        count = self._settings.validation_samples
        means, drawn = self._held_out.means(count), self._held_out.drawn(count)
        images = self._compare(model, means)
        losses = {
            "validation_psnr_db": images.psnr_db,
            "validation_sharpness": images.sharpness,
            "validation_moments": images.moments,
        }
        if drawn is not None:
            losses["validation_generated_psnr_db"] = self._compare(model, drawn).psnr_db
        return losses

    def _compare(self, narrow: NarrowVae, latents: Tensor) -> _Agreement:
        quality: list[Tensor] = []
        distance, energies = 0.0, torch.zeros(2, dtype=torch.float64)
        for batch in torch.split(latents, self._settings.batch_size):
            batch = batch.to(self._teacher.device)
            target = self._teacher.decode(batch).sample.clamp(-1, 1)
            pictures = narrow.decode(batch).clamp(-1, 1)
            quality.append(psnr_db(pictures, target).cpu().double())
            pair = (laplacian_energy(each.cpu().double()).sum() for each in (pictures, target))
            energies += torch.stack(tuple(pair))
            theirs, ours = narrow.expected(self._teacher, target), narrow.encode(target)
            distance += float(narrow.distance(ours.cpu().double(), theirs.cpu().double()).sum())
        own, teacher = energies.clamp(min=1e-12).tolist()
        psnr = float(torch.cat(quality).mean())
        return _Agreement(psnr, own / teacher, distance / len(latents))

    def describe(self, losses: Mapping[str, float]) -> str:
        """See `Lesson`."""
        told = f"PSNR to the teacher's pictures {losses['validation_psnr_db']:.2f} dB"
        drawn = losses.get("validation_generated_psnr_db")
        told += "" if drawn is None else f", of drawn ones {drawn:.2f} dB"
        return f"{told}, sharpness {losses['validation_sharpness']:.2f}"

    @torch.no_grad()
    def draw(self, model: Any, last: bool) -> Sheet:
        """The teacher's pictures above the narrow VAE's: drawn ones, else held-out images."""
        del last
        latents = self._held_out.drawn(SHOWN)
        latents = self._held_out.means(SHOWN) if latents is None else latents
        latents = latents.to(self._teacher.device)
        rows = [self._teacher.decode(latents).sample, model.decode(latents)]
        return Sheet(
            grid([_pixels(row) for row in rows]), ("teacher's decoder", "student's decoder")
        )

    def result(self, average: Any) -> Any:
        """The VAE alone."""
        return average.vae


def encoded_rows(positions: Sequence[int], plan: BatchPlan) -> tuple[list[int], float]:
    """Which pictures of a micro-batch are encoded, and what each counts in its loss.

    Every fourth of a step's samples over all its processes and micro-batches. The mean over those
    of what their pictures count is the mean over all that the step encodes, however they are
    spread. A micro-batch without one encodes its first, which counts nothing: every process must
    give every weight a gradient.

    Args:
        positions: of the micro-batch in the stream; see `edgekd.training.draws`.
    """
    slots = (position % plan.step_samples for position in positions)
    rows = [row for row, slot in enumerate(slots) if slot % ENCODED == 0]
    if not rows:
        return [0], 0.0
    in_step = -(-plan.step_samples // ENCODED)
    return rows, plan.step_samples / (plan.batch_size * in_step)


def _pixels(pictures: Tensor) -> list[Pixels]:
    """[B, 3, H, W] in [-1, 1] as 8-bit images."""
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte()
    return list(levels.permute(0, 2, 3, 1).cpu().numpy())
