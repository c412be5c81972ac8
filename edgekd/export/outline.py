"""What is known of a pipeline without its weights: its parts, its kind and its sizes."""

from __future__ import annotations

from typing import Any

from edgekd.runtime.folder import Shapes

# Part folder -> attribute of the diffusers pipeline. The U-Net, by far the largest part, comes
# last: by then the others are converted and released.
PIPELINE_ATTRIBUTES = {
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "vae_encoder": "vae",
    "vae_decoder": "vae",
    "unet": "unet",
}


def is_tiny(vae: Any) -> bool:
    """Whether a VAE is an `AutoencoderTiny`."""
    return type(vae).__name__ == "AutoencoderTiny"


def is_sdxl(pipeline: Any) -> bool:
    return type(pipeline).__name__.removeprefix("ORT").startswith("StableDiffusionXL")


def component_names(pipeline: Any) -> tuple[str, ...]:
    """The parts to export, in the order of conversion."""
    return tuple(
        name
        for name, attribute in PIPELINE_ATTRIBUTES.items()
        if getattr(pipeline, attribute, None) is not None
    )


def vae_scale_factor(pipeline: Any) -> int:
    """Picture side over latent side."""
    return int(2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def latent_size(pipeline: Any) -> tuple[int, int]:
    """Native latent height and width."""
    size = pipeline.unet.config.sample_size
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def picture_multiple(pipeline: Any) -> int:
    """What picture sides must be a multiple of, in pixels: each U-Net stage but the last halves
    the latents, and the exported upsamplers double them again. diffusers takes multiples of 8."""
    stages = len(pipeline.unet.config.down_block_types)
    return max(8, vae_scale_factor(pipeline) * int(2 ** (stages - 1)))


def other_size(pipeline: Any) -> tuple[int, int]:
    """Height and width in pixels that a pipeline can draw and that are not its own."""
    multiple = picture_multiple(pipeline)
    native = latent_size(pipeline)[0] * vae_scale_factor(pipeline)
    height = max(native // 2 // multiple, 1) * multiple
    return height, height + multiple


def parts_bytes(pipeline: Any) -> dict[str, int]:
    """Size of each model of a pipeline in float32, weights loaded or not."""
    attributes = dict.fromkeys(PIPELINE_ATTRIBUTES[name] for name in component_names(pipeline))
    return {
        name: 4 * sum(tensor.numel() for tensor in getattr(pipeline, name).parameters())
        for name in attributes
    }


def shapes(pipeline: Any, dynamic: bool) -> Shapes:
    """What clients may ask for, of a runtime with fixed or dynamic shapes."""
    scale = vae_scale_factor(pipeline)
    height, width = (side * scale for side in latent_size(pipeline))
    return Shapes((height, width), picture_multiple(pipeline), dynamic)
