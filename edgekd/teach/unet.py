"""Third stage of a teacher: the U-Net on cached latents, its text encoder along.

The loss is `edgekd.teach.noise`'s; captions are dropped for classifier-free guidance
(Ho and Salimans 2022, arXiv:2207.12598).

Shapes: latents and noise [B,C,h,w], timesteps [B], encoder_hidden_states [B,L,D].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.teach.cache import Encoder, Half
from edgekd.teach.data import (
    Corpus,
    background_phrase,
    cached_variant,
    draw_caption,
    draw_variant,
    generator,
    plain_caption,
    render,
    sample_indices,
    to_batch,
)
from edgekd.teach.loop import Step, Task
from edgekd.teach.noise import CaptionBatch, NoisePredictor, draw_timesteps
from edgekd.teach.recipe import TeachRecipe, UNetSection
from edgekd.teach.setup import TeachSetup
from edgekd.teach.text import TextModel, tokenize
from edgekd.teach.vae import validation_rows

VALIDATION_BATCH = 32


def build_unet(recipe: TeachRecipe) -> Any:
    """A `UNet2DConditionModel` in Stable Diffusion's layout, with seeded random weights.

    Cross-attention at all stages but the innermost, and in the mid block.
    """
    from edgekd.libraries import diffusers

    section = recipe.unet
    upper = len(section.block_out_channels) - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        unet = diffusers.UNet2DConditionModel(
            sample_size=recipe.data.resolution // 2 ** (len(recipe.vae.block_out_channels) - 1),
            in_channels=recipe.vae.latent_channels,
            out_channels=recipe.vae.latent_channels,
            down_block_types=("CrossAttnDownBlock2D",) * upper + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * upper,
            block_out_channels=tuple(section.block_out_channels),
            layers_per_block=section.layers_per_block,
            norm_num_groups=section.norm_num_groups,
            cross_attention_dim=recipe.text.hidden_size,
            # diffusers reads this as the number of heads, as in Stable Diffusion's own config.
            attention_head_dim=section.heads,
        )
    _start_as_identity(unet)
    return unet


def _start_as_identity(unet: nn.Module) -> None:
    """Zero the last layer of every residual branch and of the whole (Dhariwal and Nichol 2021)."""
    for name, module in unet.named_modules():
        last = name == "conv_out" or name.endswith((".proj_out", ".conv2"))
        if last and isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def compiled(unet: nn.Module) -> Callable[..., Any]:
    """A function of the same weights that torch compiles at its first call, for each batch size.

    Raises:
        InputError: torch finds no working compiler; from the call.
    """
    fast = torch.compile(unet, dynamic=False)

    def call(*inputs: Tensor) -> Any:
        try:
            with warnings.catch_warnings():
                # On how torch traced code of other libraries: nothing a user could act on.
                warnings.filterwarnings("ignore", module="torch._dynamo")
                return fast(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InputError(
                "`unet.compile` needs a compiler that torch can use",
                str(error).strip().split("\n", 1)[0],
            ) from error

    return call


@dataclass(frozen=True)
class LatentImages:
    """The VAE's latents of the images, and the way to make more.

    Attributes:
        cached: [N,V,C,h,w] unscaled, of the training subjects' renderings.
        encode: other images to unscaled latents.
    """

    cached: Half
    scaling_factor: float
    encode: Encoder


def make_unet_task(setup: TeachSetup, latents: LatentImages, text: TextModel) -> Task:
    """The denoising task."""
    recipe, corpus, device = setup.recipe, setup.corpus, setup.device
    section = recipe.unet
    predictor = NoisePredictor(section.min_snr_gamma, section.low_snr_power, setup.autocast)
    # Runs with other powers are compared by their validation loss.
    checker = NoisePredictor(section.min_snr_gamma, 0.0, setup.autocast)
    modules: dict[str, nn.Module] = {
        "unet": build_unet(recipe).to(device).train(),
        "text_encoder": text.encoder.to(device).train(),
    }
    checks = validation_batches(
        recipe, corpus, latents.scaling_factor, latents.encode, text.tokenizer
    )
    trained: dict[str, Callable[..., Any]] = {**modules}
    if section.compile:
        trained["unet"] = compiled(modules["unet"])

    def loss(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        rows, captions = [], []
        indices = sample_indices(recipe.seed, "unet", step.positions, len(corpus.train))
        for index, position in zip(indices.tolist(), step.positions.tolist(), strict=True):
            row, caption = _draw(setup, latents.cached, index, position)
            rows.append(row)
            captions.append(caption)
        clean = torch.from_numpy(np.stack(rows)).float().mul(latents.scaling_factor)
        batch = CaptionBatch(clean.to(device), tokenize(text.tokenizer, captions).to(device))
        noise, timesteps = _draw_noise(section, recipe.seed, step, tuple(clean.shape[1:]))
        weighted, raw = predictor.losses(trained, batch, noise.to(device), timesteps.to(device))
        return weighted.mean(), {"mse": raw.mean()}

    def validate(averaged: dict[str, nn.Module]) -> dict[str, float]:
        return validation_losses(checker, averaged, checks, recipe, device)

    rates = {"unet": section.train.learning_rate, "text_encoder": section.text_learning_rate}
    task = Task("unet", modules, rates, loss, validate)
    if section.optimizer == "muon":
        task.matrices = inner_matrices(modules["unet"])
    return task


def inner_matrices(unet: nn.Module) -> frozenset[str]:
    """The parameters that Muon is meant for, by their names in the task."""
    return frozenset(
        f"unet.{name}"
        for name, parameter in unet.named_parameters()
        if parameter.ndim > 1 and not name.startswith(("conv_in.", "conv_out."))
    )


def _draw(
    setup: TeachSetup, latents: Half, index: int, position: int
) -> tuple[npt.NDArray[np.float16], str]:
    """Latents and caption of one position of the sample stream."""
    recipe, corpus = setup.recipe, setup.corpus
    rng = generator(recipe.seed, "unet-sample", position)
    augment, section = recipe.data.augment, recipe.data.captions
    number = int(rng.integers(augment.variants))
    dropped = rng.random() < section.dropout
    subject = corpus.train[index]
    variant = cached_variant(subject, augment, recipe.seed, index, number)
    caption = draw_caption(subject, variant.background, section, rng).text
    return latents[index, number], "" if dropped else caption


def _draw_noise(
    section: UNetSection, seed: int, step: Step, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """This rank's noise and timesteps of a step; drawn for all ranks, then cut."""
    rng = generator(seed, "unet-noise", step.number)
    timesteps = draw_timesteps(step.batch_size, section, rng)
    noise = rng.standard_normal((step.batch_size, *shape), dtype=np.float32)
    return torch.from_numpy(noise[step.slots]), torch.from_numpy(timesteps[step.slots])


def validation_batches(
    recipe: TeachRecipe, corpus: Corpus, scaling_factor: float, encode: Encoder, tokenizer: Any
) -> dict[str, list[CaptionBatch]]:
    """Held-out images apart for known labels (`image`) and unseen ones (`group`)."""
    section = recipe.data.augment
    rows = validation_rows(corpus, recipe, recipe.unet.train.validation_samples)
    result: dict[str, list[CaptionBatch]] = {}
    for kind in ("image", "group"):
        chosen = [row for row in rows if corpus.validation[row].split == kind]
        batches = []
        for start in range(0, len(chosen), VALIDATION_BATCH):
            images, captions = [], []
            for number, row in enumerate(chosen[start : start + VALIDATION_BATCH]):
                subject = corpus.validation[row]
                rng = generator(recipe.seed, "validation-variant", row)
                variant = draw_variant(subject, section, rng, plain=number % 2 == 0)
                images.append(render(subject, variant, section.backgrounds))
                words = [plain_caption(subject)]
                if variant.background != "white":
                    words.append(background_phrase(variant.background))
                captions.append(", ".join(words))
            with torch.no_grad():
                clean = encode(to_batch(images)) * scaling_factor
            batches.append(CaptionBatch(clean, tokenize(tokenizer, captions)))
        result[kind] = batches
    return result


@torch.no_grad()
def validation_losses(
    predictor: NoisePredictor,
    averaged: dict[str, nn.Module],
    checks: dict[str, list[CaptionBatch]],
    recipe: TeachRecipe,
    device: torch.device,
) -> dict[str, float]:
    """Losses on the same noise and timesteps each time, uniform in time.

    Returns:
        `validation_loss` of known labels and `validation_group_loss` of unseen ones; one is
        left out where there are no such images.
    """
    uniform = recipe.unet.model_copy(update={"timestep_sampling": "uniform"})
    result = {}
    for kind, batches in checks.items():
        values = []
        for number, batch in enumerate(batches):
            step = Step(number, len(batch.ids), slice(None), np.empty(0, np.int64))
            shape = tuple(batch.latents.shape[1:])
            noise, timesteps = _draw_noise(uniform, recipe.seed, step, shape)
            on_device = CaptionBatch(batch.latents.to(device), batch.ids.to(device))
            weighted, _ = predictor.losses(
                averaged, on_device, noise.to(device), timesteps.to(device)
            )
            values.append(weighted)
        if values:
            name = "validation_loss" if kind == "image" else "validation_group_loss"
            result[name] = float(torch.cat(values).mean())
    return result
