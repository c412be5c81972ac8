"""Parameters, tensors and multiply-accumulates of a pipeline's components, from configs alone.

Counted from the shapes of the layers, without building a model: importing the
model libraries takes longer than all of this. One multiply-accumulate (MAC)
is two FLOPs; what is counted is what `torch.utils.flop_counter` counts,
convolutions and matrix products, those inside attention included. The tests
hold these figures to be exactly half of that counter's for the stock models.

Published MACs counted by module hooks (339 G for the U-Net of Stable
Diffusion 1.5) lack the products inside attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictBool

from edgekd.schema import validate
from edgekd.student.arch import StudentArch
from edgekd.student.layout import Tokens, unet_layers
from edgekd.student.plan import plan_student
from edgekd.student.shape import Size

# A training step costs its forward pass, and about twice that for the two gradients.
TRAIN_TO_FORWARD = 3.0


@dataclass(frozen=True)
class ComponentCost:
    """Cost of one component.

    Attributes:
        macs: multiply-accumulates of one call at batch 1.
    """

    parameters: int
    tensors: int
    macs: int

    def __add__(self, other: ComponentCost) -> ComponentCost:
        return ComponentCost(
            self.parameters + other.parameters,
            self.tensors + other.tensors,
            self.macs + other.macs,
        )


NOTHING = ComponentCost(0, 0, 0)


def weight(shape: Iterable[int], times: int, bias: bool = True) -> ComponentCost:
    """A linear layer or convolution applied at `times` positions."""
    size = tuple(shape)
    return ComponentCost(prod(size) + bias * size[0], 1 + bias, prod(size) * times)


def norm(channels: int) -> ComponentCost:
    """A normalisation with scale and shift."""
    return ComponentCost(2 * channels, 2, 0)


def attention_products(queries: int, keys: int, channels: int) -> ComponentCost:
    """`q kᵀ` and its product with `v`, over all heads."""
    return ComponentCost(0, 0, 2 * queries * keys * channels)


def unet_cost(
    arch: StudentArch,
    teacher_config: Mapping[str, Any],
    latent_size: tuple[int, int],
    text_tokens: int,
) -> ComponentCost:
    """Cost of one denoising call of a student's U-Net (of the teacher's, for a full arch).

    Args:
        latent_size: height and width of the latents.
        text_tokens: length of `encoder_hidden_states`.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    total = NOTHING
    for layer in unet_layers(plan_student(arch, teacher_config)):
        shape = layer.shape()
        if len(shape) == 1:
            total += norm(shape[0])
            continue
        pixels = _pixels(latent_size, layer.level)
        times = {Tokens.PIXELS: pixels, Tokens.TEXT: text_tokens, Tokens.ONCE: 1}[layer.tokens]
        total += weight(shape, times, layer.bias)
        if layer.name.endswith(".to_k"):
            total += attention_products(pixels, times, shape[0])
    return total


def _pixels(size: tuple[int, int], level: int) -> int:
    """Positions after `level` stride-2 convolutions with padding 1."""
    height, width = size
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height * width


class VaeConfig(BaseModel):
    """Keys of an `AutoencoderKL` that decide its cost, with diffusers' defaults."""

    in_channels: Size = 3
    out_channels: Size = 3
    latent_channels: Size = 4
    layers_per_block: Size = 1
    block_out_channels: Annotated[tuple[Size, ...], Field(min_length=1)] = (64,)
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...] = ("UpDecoderBlock2D",)
    mid_block_add_attention: StrictBool = True
    use_quant_conv: StrictBool = True
    use_post_quant_conv: StrictBool = True


class TextEncoderConfig(BaseModel):
    """Keys of a `CLIPTextConfig` that decide its cost, with transformers' defaults."""

    vocab_size: Size = 49408
    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_hidden_layers: Size = 12
    max_position_embeddings: Size = 77
    projection_dim: Size = 512


def vae_cost(
    config: Mapping[str, Any], latent_size: tuple[int, int]
) -> tuple[ComponentCost, ComponentCost]:
    """Cost of an `AutoencoderKL`'s encoder and decoder, each with its 1x1 convolution.

    Raises:
        InputError: blocks other than those of Stable Diffusion.
    """
    vae = validate(VaeConfig, dict(config), "the VAE of Stable Diffusion")
    widths, layers, latent = vae.block_out_channels, vae.layers_per_block, vae.latent_channels
    attends = vae.mid_block_add_attention
    levels = [
        latent_size[0] * latent_size[1] * 4 ** (len(widths) - 1 - i) for i in range(len(widths))
    ]
    inner, bottom = widths[-1], levels[-1]

    encoder = _conv(vae.in_channels, widths[0], levels[0])
    previous = widths[0]
    for i, width in enumerate(widths):
        encoder += _resnets(previous, width, layers, levels[i])
        if i < len(widths) - 1:
            encoder += _conv(width, width, levels[i + 1])
        previous = width
    encoder += _vae_mid(inner, bottom, attends) + norm(inner) + _conv(inner, 2 * latent, bottom)
    if vae.use_quant_conv:
        encoder += _conv(2 * latent, 2 * latent, bottom, kernel=1)

    decoder = _conv(latent, inner, bottom) + _vae_mid(inner, bottom, attends)
    if vae.use_post_quant_conv:
        decoder += _conv(latent, latent, bottom, kernel=1)
    previous = inner
    for i in reversed(range(len(widths))):
        decoder += _resnets(previous, widths[i], layers + 1, levels[i])
        if i > 0:
            decoder += _conv(widths[i], widths[i], levels[i - 1])
        previous = widths[i]
    decoder += norm(widths[0]) + _conv(widths[0], vae.out_channels, levels[0])
    return encoder, decoder


def decoder_cost(config: Mapping[str, Any], latent_size: tuple[int, int]) -> ComponentCost:
    """Cost of a decoder: of an `AutoencoderTiny` if its config says so, else of an `AutoencoderKL`.

    Raises:
        InputError: see `vae_cost`.
    """
    if config.get("_class_name") != "AutoencoderTiny":
        return vae_cost(config, latent_size)[1]
    width, pixels = config["decoder_block_out_channels"][0], prod(latent_size)
    total = _conv(config["latent_channels"], width, pixels)
    first, *others = config["num_decoder_blocks"]
    total += _tiny_blocks(width, first, pixels)
    for blocks in others:
        pixels *= 4
        total += weight((width, width, 3, 3), pixels, bias=False)
        total += _tiny_blocks(width, blocks, pixels)
    return total + _conv(width, config["out_channels"], pixels)


def _tiny_blocks(width: int, count: int, pixels: int) -> ComponentCost:
    total = NOTHING
    for _ in range(3 * count):
        total += _conv(width, width, pixels)
    return total


def _conv(inputs: int, outputs: int, pixels: int, kernel: int = 3) -> ComponentCost:
    return weight((outputs, inputs, kernel, kernel), pixels)


def _resnets(inputs: int, outputs: int, count: int, pixels: int) -> ComponentCost:
    """Residual blocks without time embedding, the first of which may change the width."""
    total = NOTHING
    for i in range(count):
        source = inputs if i == 0 else outputs
        total += norm(source) + _conv(source, outputs, pixels)
        total += norm(outputs) + _conv(outputs, outputs, pixels)
        if source != outputs:
            total += _conv(source, outputs, pixels, kernel=1)
    return total


def _vae_mid(width: int, pixels: int, attends: bool) -> ComponentCost:
    total = _resnets(width, width, 2, pixels)
    if attends:
        total += norm(width) + attention_products(pixels, pixels, width)
        for _ in range(4):
            total += weight((width, width), pixels)
    return total


def text_encoder_cost(config: Mapping[str, Any], projection: bool) -> ComponentCost:
    """Cost of a CLIP text encoder on a full prompt.

    Args:
        projection: `CLIPTextModelWithProjection` rather than `CLIPTextModel`.

    Raises:
        InputError: a size that is no positive integer.
    """
    text = validate(TextEncoderConfig, dict(config), "the text encoder")
    width, inner, tokens = text.hidden_size, text.intermediate_size, text.max_position_embeddings
    block = norm(width) + norm(width) + attention_products(tokens, tokens, width)
    for _ in range(4):
        block += weight((width, width), tokens)
    block += weight((inner, width), tokens) + weight((width, inner), tokens)
    total = ComponentCost((text.vocab_size + tokens) * width, 2, 0) + norm(width)
    for _ in range(text.num_hidden_layers):
        total += block
    if projection:
        total += weight((text.projection_dim, width), 1, bias=False)
    return total
