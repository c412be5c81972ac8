"""A pipeline's parts as plain modules: named tensors in, named tensors out.

Every exporter starts from these captures. Input and output names and dynamic
axes are those of optimum's exports, which its ONNX and OpenVINO pipelines
expect; an exporter for a runtime with its own names maps them.

Shapes: B batch, L tokens, D text width, h/w latent height and width, H/W picture
height and width, c latent channels, N hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.export.outline import is_sdxl, is_tiny, latent_size, vae_scale_factor


@dataclass(frozen=True)
class Capture:
    """One part of a pipeline, ready for conversion.

    Attributes:
        component: folder name of the part (`"unet"`).
        module: float32, evaluation mode; takes the inputs by position, returns a tuple.
        example_inputs: input name -> tensor, in the module's order.
        outputs: output names, in the module's order.
        dynamic_axes: tensor name -> {axis: axis name}.
        config: the part's configuration, as stored beside the converted model.
    """

    component: str
    module: nn.Module
    example_inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic_axes: dict[str, dict[int, str]]
    config: dict[str, Any]


class TextEncoderModule(nn.Module):
    """input_ids [B,L] -> the encoder's outputs by name, hidden states [B,L,D] last."""

    def __init__(self, encoder: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.outputs = outputs

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        wants_hidden = any(name.startswith("hidden_states.") for name in self.outputs)
        result = self.encoder(input_ids, output_hidden_states=wants_hidden, return_dict=True)
        return tuple(select_output(result, name) for name in self.outputs)


class UNetModule(nn.Module):
    """sample [B,c,h,w], timestep [], encoder_hidden_states [B,L,D], conditions -> sample."""

    def __init__(self, unet: nn.Module, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.unet = unet
        self.inputs = inputs

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, *conditions: Tensor
    ) -> tuple[Tensor]:
        named = dict(zip(self.inputs[3:], conditions, strict=True))
        added = {name: named[name] for name in ("text_embeds", "time_ids") if name in named}
        result = self.unet(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=named.get("timestep_cond"),
            added_cond_kwargs=added or None,
            return_dict=False,
        )
        return (result[0],)


class VaeEncoderModule(nn.Module):
    """sample [B,3,H,W] in [-1,1] -> mean and log-variance [B,2c,h,w]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: Tensor) -> tuple[Tensor]:
        return (self.vae.encode(sample).latent_dist.parameters,)


class TinyVaeEncoderModule(nn.Module):
    """sample [B,3,H,W] in [-1,1] -> latents [B,c,h,w]: an `AutoencoderTiny` has no posterior."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: Tensor) -> tuple[Tensor]:
        return (self.vae.encode(sample).latents,)


class VaeDecoderModule(nn.Module):
    """latent_sample [B,c,h,w], unscaled -> picture [B,3,H,W] in [-1,1]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: Tensor) -> tuple[Tensor]:
        return (self.vae.decode(latent_sample, return_dict=False)[0],)


def vae_encoder_output(vae: Any) -> str:
    """Output name of the encoder, as optimum's clients tell the two kinds of VAE apart."""
    return "latent_sample" if is_tiny(vae) else "latent_parameters"


def vae_encoder_module(vae: Any) -> nn.Module:
    """The encoder of either kind of VAE."""
    return TinyVaeEncoderModule(vae) if is_tiny(vae) else VaeEncoderModule(vae)


def select_output(result: Any, name: str) -> Tensor:
    """`"hidden_states.3"` or a plain field of a transformers model output."""
    field, _, index = name.partition(".")
    value: Any = result[field]
    tensor: Tensor = value[int(index)] if index else value
    return tensor


def text_encoder_outputs(encoder: Any, with_hidden_states: bool) -> tuple[str, ...]:
    """Output names in optimum's order. The pooled vector of a projecting encoder comes first:
    diffusers takes it as `output[0]`."""
    projects = type(encoder).__name__ == "CLIPTextModelWithProjection"
    names = (
        ("text_embeds", "last_hidden_state")
        if projects
        else (
            "last_hidden_state",
            "pooler_output",
        )
    )
    if not with_hidden_states:
        return names
    count = encoder.config.num_hidden_layers + 1
    return names + tuple(f"hidden_states.{index}" for index in range(count))


def capture(pipeline: Any, component: str) -> Capture:
    """Wrap one part of a diffusers pipeline.

    Raises:
        InputError: the part uses a conditioning that no exporter knows.
    """
    builders = {
        "text_encoder": _capture_text_encoder,
        "text_encoder_2": _capture_text_encoder,
        "vae_encoder": _capture_vae_encoder,
        "vae_decoder": _capture_vae_decoder,
        "unet": _capture_unet,
    }
    captured = builders[component](pipeline, component)
    captured.module.eval().requires_grad_(False)
    return captured


def _capture_text_encoder(pipeline: Any, component: str) -> Capture:
    encoder = getattr(pipeline, component)
    if getattr(encoder.config, "use_attention_mask", False):
        raise InputError(
            f"`{component}` must encode without an attention mask", "use_attention_mask=true"
        )
    outputs = text_encoder_outputs(encoder, with_hidden_states=is_sdxl(pipeline))
    tokenizer = getattr(pipeline, component.replace("text_encoder", "tokenizer"))
    ids = torch.arange(2 * tokenizer.model_max_length).reshape(2, -1) % encoder.config.vocab_size
    pooled = {"pooler_output", "text_embeds"}
    axes = {
        name: {0: "batch_size"} if name in pooled else {0: "batch_size", 1: "sequence_length"}
        for name in ("input_ids", *outputs)
    }
    config = encoder.config.to_dict()
    return Capture(
        component,
        TextEncoderModule(encoder, outputs),
        {"input_ids": ids},
        outputs,
        axes,
        _clean_config(config, dtype="float32"),
    )


def unet_inputs(config: Any) -> tuple[str, ...]:
    """Input names of a U-Net, in optimum's order.

    Raises:
        InputError: the U-Net wants a conditioning that no exporter knows.
    """
    unknown = {
        name: getattr(config, name, None)
        for name in ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
    }
    added = config.addition_embed_type
    if added not in (None, "text_time"):
        unknown["addition_embed_type"] = added
    found = ", ".join(f"{name}={value}" for name, value in unknown.items() if value is not None)
    if found:
        raise InputError("the U-Net must be conditioned on text, size and guidance only", found)
    names: tuple[str, ...] = ("sample", "timestep", "encoder_hidden_states")
    if config.time_cond_proj_dim is not None:
        names += ("timestep_cond",)
    if added == "text_time":
        names += ("text_embeds", "time_ids")
    return names


def _capture_unet(pipeline: Any, component: str) -> Capture:
    unet = pipeline.unet
    config = unet.config
    inputs = unet_inputs(config)
    height, width = latent_size(pipeline)
    # Seeded, so that the same pipeline always gives the same file.
    generator = torch.Generator().manual_seed(0)
    examples = {
        "sample": torch.randn(2, config.in_channels, height, width, generator=generator),
        # A float scalar: Euler's timesteps lie between the training timesteps, and clients
        # cast what they hold to the type of this input.
        "timestep": torch.tensor(500.0),
        "encoder_hidden_states": torch.randn(
            2, _token_count(pipeline), config.cross_attention_dim, generator=generator
        ),
    }
    if "timestep_cond" in inputs:
        examples["timestep_cond"] = torch.randn(2, config.time_cond_proj_dim, generator=generator)
    if "text_embeds" in inputs:
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        examples["text_embeds"] = torch.randn(2, pooled, generator=generator)
        examples["time_ids"] = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(2, 1)
    image = {0: "batch_size", 2: "height", 3: "width"}
    axes = {name: {0: "batch_size"} for name in inputs if name != "timestep"}
    axes |= {"sample": image, "out_sample": image}
    axes["encoder_hidden_states"] = {0: "batch_size", 1: "sequence_length"}
    return Capture(
        component, UNetModule(unet, inputs), examples, ("out_sample",), axes, _clean_config(config)
    )


def _capture_vae_encoder(pipeline: Any, component: str) -> Capture:
    config = pipeline.vae.config
    height, width = latent_size(pipeline)
    scale = vae_scale_factor(pipeline)
    sample = torch.zeros(1, config.in_channels, height * scale, width * scale)
    output = vae_encoder_output(pipeline.vae)
    axes = {
        "sample": {0: "batch_size", 2: "sample_height", 3: "sample_width"},
        output: {
            0: "batch_size",
            2: f"sample_height / {scale}",
            3: f"sample_width / {scale}",
        },
    }
    module = vae_encoder_module(pipeline.vae)
    return Capture(component, module, {"sample": sample}, (output,), axes, _clean_config(config))


def _capture_vae_decoder(pipeline: Any, component: str) -> Capture:
    config = pipeline.vae.config
    height, width = latent_size(pipeline)
    scale = vae_scale_factor(pipeline)
    latents = torch.zeros(1, config.latent_channels, height, width)
    axes = {
        "latent_sample": {0: "batch_size", 2: "latent_height", 3: "latent_width"},
        "sample": {
            0: "batch_size",
            2: f"latent_height * {scale}",
            3: f"latent_width * {scale}",
        },
    }
    module = VaeDecoderModule(pipeline.vae)
    return Capture(
        component, module, {"latent_sample": latents}, ("sample",), axes, _clean_config(config)
    )


def _token_count(pipeline: Any) -> int:
    tokenizer = pipeline.tokenizer if pipeline.tokenizer is not None else pipeline.tokenizer_2
    return int(tokenizer.model_max_length)


def _clean_config(config: Any, **changes: Any) -> dict[str, Any]:
    """A plain dictionary without the place where the part was loaded from."""
    return {key: value for key, value in {**config, **changes}.items() if key != "_name_or_path"}
