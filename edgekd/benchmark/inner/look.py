"""Both sides of a comparison, in a process of their own: noisy latents, and what a U-Net does.

B batch, N inputs, T timesteps, [C,h,w] latents, L tokens, D text width, P pooled width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgekd.benchmark.inner.attention import word_maps
from edgekd.benchmark.inner.question import Held, Inputs, Question, Seen, WordMap, spread_timesteps
from edgekd.diffusion.encode import added_conditions, encode_images, encode_prompts, sample_latents
from edgekd.diffusion.load import Teacher, load_teacher
from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.diffusion.taps import Taps
from edgekd.distill.batches import Batch
from edgekd.distill.guidance import guidance_embedding
from edgekd.distill.objective import predict
from edgekd.errors import InputError
from edgekd.metrics.metric import Floats


@torch.no_grad()
def make_inputs(held: Held) -> Inputs:
    """Held-out images as noisy latents of the teacher, the same noise at every timestep.

    Latents are the mean of the VAE's posterior.
    """
    teacher = load_teacher(held.teacher, only=["vae"])
    latents = []
    for rows in _slices(len(held.images), held.batch_size):
        pixels = torch.from_numpy(held.images[rows].astype(np.float32)).permute(0, 3, 1, 2)
        mean, logvar = encode_images(teacher, pixels / 127.5 - 1)
        latents.append(sample_latents(mean, logvar, teacher.vae.config, None))
    clean = torch.cat(latents)
    shape, generators = clean.shape[1:], (torch.Generator() for _ in held.noise_seeds)
    noise = torch.stack(
        [
            torch.randn(shape, generator=generator.manual_seed(seed))
            for generator, seed in zip(generators, held.noise_seeds, strict=True)
        ]
    )
    schedule = read_schedule(teacher.scheduler)
    timesteps = spread_timesteps(held.timesteps, schedule.timesteps)
    noisy = [
        schedule.add_noise(clean, noise, torch.full((len(clean),), timestep))
        for timestep in timesteps
    ]
    return Inputs(
        noisy=torch.stack(noisy).numpy(),
        captions=held.captions,
        timesteps=timesteps,
        side=held.images.shape[1],
        batch_size=held.batch_size,
        attended=held.attended,
    )


@torch.no_grad()
def look(question: Question, inputs: Inputs) -> Seen:
    """Run a pipeline's U-Net on all inputs, captions encoded as its own pipeline does.

    Raises:
        InputError: a folder that does not load, latents of another kind, or a point that its
            U-Net has not.
    """
    model = load_teacher(question.path, only=["unet", "text_encoder", "text_encoder_2"])
    channels = inputs.noisy.shape[2]
    if model.unet.config.in_channels != channels:
        raise InputError(
            f"both U-Nets must take latents of {channels} channels",
            str(model.unet.config.in_channels),
        )
    asked = _Asked(model, inputs, question.guidance_scale)
    return Seen(_features(asked, question.points), _maps(asked, question.attentions))


class _Asked:
    """A pipeline with the inputs that its U-Net gets."""

    def __init__(self, model: Teacher, inputs: Inputs, guidance_scale: float) -> None:
        self.model, self.inputs = model, inputs
        self._guidance_scale = guidance_scale
        captions = inputs.captions
        parts = [encode_prompts(model, captions[rows]) for rows in self.slices(len(captions))]
        self._text = torch.cat([part.encoder_hidden_states for part in parts])
        pooled = [part.pooled for part in parts if part.pooled is not None]
        self._pooled = torch.cat(pooled) if pooled else None

    def slices(self, count: int) -> list[slice]:
        return _slices(count, self.inputs.batch_size)

    def run(self, index: int, rows: slice) -> None:
        """A forward pass of some inputs at a timestep, for the taps."""
        predict(self.model.unet, self._batch(index, rows), None)

    def _batch(self, index: int, rows: slice) -> Batch:
        noisy = torch.from_numpy(self.inputs.noisy[index, rows])
        count, side = len(noisy), float(self.inputs.side)
        # As diffusers' pipeline tells SDXL of a picture that is drawn whole.
        sizes = torch.tensor([[side, side, 0.0, 0.0, side, side]]).repeat(count, 1)
        pooled = None if self._pooled is None else self._pooled[rows]
        width = self.model.unet.config.time_cond_proj_dim
        scales = torch.full((count,), self._guidance_scale)
        return Batch(
            noisy_latents=noisy,
            timesteps=torch.full((count,), self.inputs.timesteps[index]),
            encoder_hidden_states=self._text[rows],
            added=added_conditions(self.model.info, pooled, sizes),
            target=noisy,
            timestep_cond=None if width is None else guidance_embedding(scales, width),
        )


def _features(asked: _Asked, points: tuple[str, ...]) -> dict[str, Floats]:
    """[T,N,D] by point: means over all positions."""
    inputs = asked.inputs
    found: dict[str, list[Tensor]] = {point: [] for point in points}
    with Taps(asked.model.unet, points) as taps:
        for index in range(len(inputs.timesteps)):
            for rows in asked.slices(len(inputs.captions)):
                asked.run(index, rows)
                for point, means in found.items():
                    means.append(taps.features(point).mean(dim=(2, 3)))
    shape = (len(inputs.timesteps), len(inputs.captions), -1)
    return {point: torch.cat(means).reshape(shape).numpy() for point, means in found.items()}


def _maps(asked: _Asked, points: tuple[str, ...]) -> tuple[WordMap, ...]:
    """Maps of the words of the first captions at the middle timestep."""
    inputs, tokenizer, found = asked.inputs, asked.model.tokenizers[0], []
    if not points or not inputs.attended:
        return ()
    with Taps(asked.model.unet, points) as taps:
        for rows in asked.slices(inputs.attended):
            asked.run(inputs.middle, rows)
            for point in points:
                means = taps.attention(point).maps().mean(dim=1).numpy()
                for caption, weights in zip(inputs.captions[rows], means, strict=True):
                    for word, picture in word_maps(tokenizer, caption, weights).items():
                        found.append(WordMap(point, caption, word, picture))
    return tuple(found)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
