"""First stage of a teacher: the autoencoder.

Loss: L1 and squared error of the pixels, distance of EfficientNet-Lite0 maps, and a small KL
term (Rombach et al. 2022, arXiv:2112.10752).

Shapes: images [N,3,R,R] in [-1,1], latents [N,C,R/f,R/f].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.metrics.efficientnet import load_trunk
from edgekd.teach.data import (
    Corpus,
    Subject,
    cached_variant,
    draw_variant,
    generator,
    render,
    sample_indices,
    to_batch,
)
from edgekd.teach.loop import Step, Task
from edgekd.teach.recipe import TeachRecipe, VaeSection
from edgekd.teach.setup import TeachSetup
from edgekd.training.images import PERCEPTUAL_LEVELS, perceptual_distance, psnr_db

STATISTICS_SUBJECTS = 512


def build_vae(section: VaeSection, resolution: int, seed: int) -> Any:
    """An `AutoencoderKL` with seeded random weights."""
    from edgekd.libraries import diffusers

    stages = len(section.block_out_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * stages,
            up_block_types=("UpDecoderBlock2D",) * stages,
            block_out_channels=tuple(section.block_out_channels),
            layers_per_block=section.layers_per_block,
            latent_channels=section.latent_channels,
            norm_num_groups=section.norm_num_groups,
            sample_size=resolution,
            mid_block_add_attention=False,
        )


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Mean over all latent values of KL(N(mean, exp(logvar)) || N(0, 1)), in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity per image, [N], of [N,C,H,W] in [-1,1].

    Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03;
    mean over positions with a whole window and over channels.
    """
    offsets = torch.arange(11, dtype=images.dtype, device=images.device) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2
    channels = images.shape[1]
    kernel = window.expand(channels, 1, 11, 11)

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mean_x, mean_y = local_mean(images), local_mean(targets)
    var_x = local_mean(images * images) - mean_x**2
    var_y = local_mean(targets * targets) - mean_y**2
    covariance = local_mean(images * targets) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def normalise_latents(vae: Any, mean: Tensor, std: Tensor) -> None:
    """Fold a per-channel normalisation of the latents into the 1x1 convolutions around them.

    Afterwards the encoder gives (latents - mean) / std and the decoder undoes it, so that
    the autoencoder is the same function while each latent channel has mean 0 and variance 1
    over the data from which `mean` and `std`, both [C], were taken.
    """
    channels = mean.numel()
    with torch.no_grad():
        into, out = vae.quant_conv, vae.post_quant_conv
        into.weight[:channels] /= std[:, None, None, None]
        into.bias[:channels] = (into.bias[:channels] - mean) / std
        into.bias[channels:] -= 2 * std.log()
        out.bias += (out.weight[:, :, 0, 0] * mean).sum(dim=1)
        out.weight *= std[None, :, None, None]


def validation_images(corpus: Corpus, recipe: TeachRecipe, count: int) -> list[Tensor]:
    """Held-out images in batches of 32: half on white, half on random backgrounds."""
    section = recipe.data.augment
    rows = validation_rows(corpus, recipe, count)
    images = []
    for number, index in enumerate(rows):
        subject = corpus.validation[index]
        rng = generator(recipe.seed, "validation-variant", index)
        variant = draw_variant(subject, section, rng, plain=number % 2 == 0)
        images.append(render(subject, variant, section.backgrounds))
    return [to_batch(images[i : i + 32]) for i in range(0, len(images), 32)]


def validation_rows(corpus: Corpus, recipe: TeachRecipe, count: int) -> list[int]:
    """Which held-out images are looked at while training: a fixed choice."""
    order = generator(recipe.seed, "validation").permutation(len(corpus.validation))
    return [int(i) for i in order[:count]]


def random_image(subject: Subject, recipe: TeachRecipe, position: int) -> Any:
    """The rendering of a subject at one position of the sample stream."""
    section = recipe.data.augment
    variant = draw_variant(subject, section, generator(recipe.seed, "vae-variant", position))
    return render(subject, variant, section.backgrounds)


def finish_vae(vae: Any, setup: TeachSetup) -> None:
    """Normalise the latents' channels, and set `scaling_factor` to 1 / their standard deviation."""
    latents = _encode_subset(vae, setup)
    normalise_latents(vae, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
    latents = _encode_subset(vae, setup)
    vae.register_to_config(scaling_factor=1 / float(latents.std()))


@torch.no_grad()
def _encode_subset(vae: Any, setup: TeachSetup) -> Tensor:
    """Latent means of up to `STATISTICS_SUBJECTS` training images, two renderings of each."""
    recipe, corpus, device = setup.recipe, setup.corpus, setup.device
    rows = generator(recipe.seed, "statistics").permutation(len(corpus.train))
    section = recipe.data.augment
    latents = []
    for index in rows[:STATISTICS_SUBJECTS]:
        subject = corpus.train[int(index)]
        images = to_batch(
            [
                render(
                    subject,
                    cached_variant(subject, section, recipe.seed, int(index), number),
                    section.backgrounds,
                )
                for number in range(2)
            ]
        )
        latents.append(vae.encode(images.to(device)).latent_dist.mean)
    return torch.cat(latents)


def make_vae_task(setup: TeachSetup, folder: Path) -> Task:
    """The autoencoder's training task; reconstructions of held-out images go to `folder`."""
    recipe, corpus, device = setup.recipe, setup.corpus, setup.device
    section = recipe.vae
    vae = build_vae(section, recipe.data.resolution, recipe.seed).to(device).train()
    trunk = load_trunk().to(device)
    held_out = validation_images(corpus, recipe, section.train.validation_samples)

    def loss(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        indices = sample_indices(recipe.seed, "vae", step.positions, len(corpus.train))
        images = to_batch(
            [
                random_image(corpus.train[int(i)], recipe, int(p))
                for i, p in zip(indices, step.positions, strict=True)
            ]
        ).to(device)
        noise = _noise(recipe, step, recipe.data.resolution).to(device)
        with setup.autocast():
            posterior = vae.encode(images).latent_dist
            latents = posterior.mean + posterior.std * noise
            decoded = vae.decode(latents).sample.float()
        return _vae_loss(section, trunk, images, decoded, posterior)

    def validate(averaged: dict[str, nn.Module]) -> dict[str, float]:
        return _validate(averaged["vae"], held_out, device, folder)

    rates = {"vae": section.train.learning_rate}
    return Task("vae", {"vae": vae}, rates, loss, validate)


def _noise(recipe: TeachRecipe, step: Step, resolution: int) -> Tensor:
    side = resolution // 2 ** (len(recipe.vae.block_out_channels) - 1)
    shape = (step.batch_size, recipe.vae.latent_channels, side, side)
    rng = generator(recipe.seed, "vae-noise", step.number)
    noise = torch.from_numpy(rng.standard_normal(shape, dtype="float32"))
    return noise[step.slots]


def _vae_loss(
    section: VaeSection, trunk: nn.Module, images: Tensor, decoded: Tensor, posterior: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        targets = trunk(images).maps[:PERCEPTUAL_LEVELS]
    terms = {
        "l1": (decoded - images).abs().mean(),
        "mse": (decoded - images).square().mean(),
        "perceptual": perceptual_distance(trunk(decoded).maps[:PERCEPTUAL_LEVELS], targets),
        "kl": kl_divergence(posterior.mean.float(), posterior.logvar.float()),
    }
    loss = (
        section.l1_weight * terms["l1"]
        + section.mse_weight * terms["mse"]
        + section.perceptual_weight * terms["perceptual"]
        + section.kl_weight * terms["kl"]
    )
    return loss, terms


@torch.no_grad()
def _validate(
    vae: Any, batches: list[Tensor], device: torch.device, folder: Path
) -> dict[str, float]:
    quality, similarity, first = [], [], None
    for images in batches:
        decoded = vae.decode(vae.encode(images.to(device)).latent_dist.mean).sample
        decoded = decoded.clamp(-1, 1).cpu()
        quality.append(psnr_db(decoded, images))
        similarity.append(ssim(decoded, images))
        first = (images, decoded) if first is None else first
    if first is not None:
        from edgekd.teach.plots import write_grid

        pairs = torch.stack([first[0][:16], first[1][:16]], dim=1).flatten(0, 1)
        write_grid(pairs, folder / "reconstructions.png", columns=8)
    values = torch.cat(quality)
    return {
        "validation_psnr_db": float(values.mean()),
        "validation_psnr_p10_db": float(values.quantile(0.1)),
        "validation_ssim": float(torch.cat(similarity).mean()),
    }
