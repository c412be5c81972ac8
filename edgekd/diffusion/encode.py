"""Encode captions and images as the teacher's own pipeline does.

Shapes: B batch, L tokens, D cross-attention width, P pooled width,
[B, C, h, w] latents, [B, 3, H, W] images in [-1, 1].
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgekd.diffusion.load import Teacher
from edgekd.diffusion.validate import TeacherInfo


@dataclass(frozen=True)
class TextEmbeddings:
    """What the U-Net attends to.

    Attributes:
        encoder_hidden_states: [B, L, D].
        pooled: [B, P] for SDXL, else None.
    """

    encoder_hidden_states: torch.Tensor
    pooled: torch.Tensor | None


@torch.no_grad()
def encode_prompts(teacher: Teacher, captions: Sequence[str]) -> TextEmbeddings:
    """Embed captions as `encode_prompt` of the teacher's pipeline does.

    SD 1 and 2: the text encoder's last hidden state after its final norm.
    SDXL: the penultimate hidden states of both encoders side by side, and the
    second encoder's projected pooled output.

    The caption "" is the unconditional embedding that guidance uses: zeros
    where the pipeline says so (SDXL's `force_zeros_for_empty_prompt`), so that
    dropped captions in training and guidance in sampling mean the same.
    """
    hidden_states = []
    pooled = None
    tokens = tokenize(teacher, captions)
    for encoder, ids in zip(teacher.text_encoders, tokens, strict=True):
        hidden, pooled = embed(encoder, ids, teacher.info.family == "sdxl")
        hidden_states.append(hidden)
    embeddings = torch.cat(hidden_states, dim=-1)
    if teacher.info.zero_empty_prompt:
        named = torch.tensor([caption != "" for caption in captions], device=embeddings.device)
        embeddings = embeddings * named[:, None, None]
        pooled = None if pooled is None else pooled * named[:, None]
    return TextEmbeddings(embeddings, pooled)


def tokenize(teacher: Teacher, captions: Sequence[str]) -> list[torch.Tensor]:
    """Ids of captions, [B, L] for each text encoder and on its device."""
    return [
        tokenizer(
            list(captions),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(encoder.device)
        for tokenizer, encoder in zip(teacher.tokenizers, teacher.text_encoders, strict=True)
    ]


def embed(encoder: Any, tokens: torch.Tensor, xl: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What a pipeline takes of one text encoder: hidden states [B, L, D], and of SDXL's second one
    its pooled projection [B, P]."""
    if not xl:
        return encoder(tokens)[0], None
    output = encoder(tokens, output_hidden_states=True)
    return output.hidden_states[-2], getattr(output, "text_embeds", None)


@torch.no_grad()
def encode_images(teacher: Teacher, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance of the VAE's posterior, unscaled.

    Args:
        images: [B, 3, H, W] in [-1, 1].

    Returns:
        mean and logvar, both [B, C, h, w].
    """
    images = images.to(device=teacher.vae.device, dtype=teacher.vae.dtype)
    with _whole_float32(images.device):
        posterior = teacher.vae.encode(images).latent_dist
    return posterior.mean, posterior.logvar


@contextlib.contextmanager
def _whole_float32(device: torch.device) -> Iterator[None]:
    """Without TF32, whose 10 bits of mantissa cuDNN's convolutions take by default: what is encoded
    on a GPU is what a CPU would give, but for how sums round."""
    if device.type != "cuda":  # the switch is the whole process's, whose threads encode on a CPU
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def sample_latents(
    mean: torch.Tensor,
    logvar: torch.Tensor,
    vae_config: Mapping[str, Any],
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Draw latents from the posterior and scale them for the U-Net.

    `z = mean + exp(logvar / 2) * noise` (Kingma and Welling 2013, section 2.4).

    Args:
        mean: [B, C, h, w].
        logvar: [B, C, h, w].
        generator: source of the noise; None returns the scaled mean, without noise.

    Returns:
        scaled latents [B, C, h, w].
    """
    latents = mean
    if generator is not None:
        noise = torch.randn(
            mean.shape, generator=generator, device=generator.device, dtype=mean.dtype
        )
        latents = mean + torch.exp(0.5 * logvar) * noise.to(mean.device)
    return scale_latents(latents, vae_config)


def scale_latents(latents: torch.Tensor, vae_config: Mapping[str, Any]) -> torch.Tensor:
    """Scale a VAE's latents for the U-Net: `(z - shift) * scale`.

    The VAE's config gives the shift and scale: `latents_mean`, `latents_std` and
    `scaling_factor`, or `shift_factor` and `scaling_factor`.

    Args:
        latents: [B, C, h, w].
    """
    scaling_factor: float = vae_config["scaling_factor"]
    latents_mean, latents_std = vae_config.get("latents_mean"), vae_config.get("latents_std")
    if latents_mean is not None and latents_std is not None:
        center = torch.tensor(latents_mean, dtype=latents.dtype, device=latents.device)
        spread = torch.tensor(latents_std, dtype=latents.dtype, device=latents.device)
        return (latents - center[:, None, None]) * scaling_factor / spread[:, None, None]
    shift_factor: float | None = vae_config.get("shift_factor")
    if shift_factor is not None:
        latents = latents - shift_factor
    return latents * scaling_factor


def unscale_latents(latents: torch.Tensor, vae_config: Mapping[str, Any]) -> torch.Tensor:
    """Undo `scale_latents`: from the U-Net's latents to the decoder's.

    Args:
        latents: [B, C, h, w].
    """
    scaling_factor: float = vae_config["scaling_factor"]
    latents = latents / scaling_factor
    latents_mean, latents_std = vae_config.get("latents_mean"), vae_config.get("latents_std")
    if latents_mean is not None and latents_std is not None:
        center, spread = (
            torch.tensor(row, dtype=latents.dtype, device=latents.device)[:, None, None]
            for row in (latents_mean, latents_std)
        )
        return latents * spread + center
    shift_factor: float | None = vae_config.get("shift_factor")
    return latents if shift_factor is None else latents + shift_factor


def added_conditions(
    teacher: Teacher | TeacherInfo, pooled: torch.Tensor | None, time_ids: torch.Tensor | None
) -> dict[str, torch.Tensor] | None:
    """`added_cond_kwargs` of the U-Net: SDXL's pooled text and size conditioning, else None.

    Args:
        pooled: [B, P] pooled text embeddings.
        time_ids: [B, 6] original height and width, crop top and left, target height and width.

    Raises:
        ValueError: SDXL without `pooled` or `time_ids`.
    """
    info = teacher.info if isinstance(teacher, Teacher) else teacher
    if info.family != "sdxl":
        return None
    if pooled is None or time_ids is None:
        raise ValueError("SDXL needs both pooled text embeddings and time_ids")
    return {"text_embeds": pooled, "time_ids": time_ids.to(pooled)}
