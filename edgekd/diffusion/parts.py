"""How each part of a pipeline is called: to see that it runs, to count its work, to try it out.

C latent channels, s side of the latents, S side of the pictures, L tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgekd.diffusion.components import CONFIG_FAULTS, shorten
from edgekd.errors import InputError

_TIMESTEP = 500
# Several stages of a run inspect the same teacher, and a large one takes seconds.
_known_to_run: set[tuple[str, str, int, int]] = set()


@dataclass(frozen=True)
class PartCall:
    """One call of a part: `run()` gives its output, which must have `shape`."""

    run: Callable[[], Tensor]
    shape: tuple[int, ...]


def part_calls(
    component: str, model: Any, side: int, tokens: int, sample: int = 0
) -> dict[str, PartCall]:
    """Calls of one model's parts at batch 1; on the meta device they have shapes alone.

    Args:
        component: `unet`, `vae`, `text_encoder` or `text_encoder_2`.
        side: of the latents.
        tokens: of a prompt.
        sample: number of the input: latents, picture or token ids, each unlike the others.

    Returns:
        part -> call; the VAE's two halves are parts of their own.
    """
    if component == "unet":
        return {component: _unet_call(model, side, tokens, sample)}
    if component == "vae":
        return _vae_calls(model, side, sample)
    return {component: _text_call(component, model, tokens, sample)}


def check_runs(component: str, model: Any, side: int, tokens: int) -> None:
    """An empty model runs: some configs make a model that cannot be called.

    Raises:
        InputError: it does not, or gives other shapes than its pipeline needs.
    """
    key = (component, f"{type(model).__name__} {model.config}", side, tokens)
    if key in _known_to_run:
        return
    for part, call in part_calls(component, model, side, tokens).items():
        try:
            found = tuple(call.run().shape)
        except CONFIG_FAULTS as error:
            raise InputError(
                f"the {part} must run as its config describes it",
                f"{type(error).__name__}: {shorten(error)}",
            ) from None
        if found != call.shape:
            raise InputError(
                f"the {part} must give {list(call.shape)} by its config", str(list(found))
            )
    _known_to_run.add(key)


def _unet_call(unet: Any, side: int, tokens: int, sample: int) -> PartCall:
    config = unet.config
    shape = (1, config.in_channels, side, side)
    conditions: dict[str, Any] = {}
    if config.addition_embed_type is not None:
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        conditions["added_cond_kwargs"] = {
            "text_embeds": _noise(unet, (1, width), 0),
            "time_ids": torch.full((1, 6), 8.0 * side, device=unet.device, dtype=unet.dtype),
        }
    if config.time_cond_proj_dim is not None:
        conditions["timestep_cond"] = _noise(unet, (1, config.time_cond_proj_dim), 0)

    def run() -> Tensor:
        text = _noise(unet, (1, tokens, config.cross_attention_dim), 0)
        output: Tensor = unet(_noise(unet, shape, sample), _TIMESTEP, text, **conditions).sample
        return output

    return PartCall(torch.no_grad()(run), shape)


def _vae_calls(vae: Any, side: int, sample: int) -> dict[str, PartCall]:
    latents = (1, vae.config.latent_channels, side, side)
    picture = (1, 3, *[side * 2 ** (len(vae.config.block_out_channels) - 1)] * 2)

    def encode() -> Tensor:
        found = vae.encode(_noise(vae, picture, sample), return_dict=False)[0]
        # An AutoencoderTiny gives latents, an AutoencoderKL their distribution.
        mean: Tensor = found if torch.is_tensor(found) else found.mean
        return mean

    def decode() -> Tensor:
        decoded: Tensor = vae.decode(_noise(vae, latents, sample), return_dict=False)[0]
        return decoded

    no_grad = torch.no_grad()
    return {
        "vae_encoder": PartCall(no_grad(encode), latents),
        "vae_decoder": PartCall(no_grad(decode), picture),
    }


def _text_call(component: str, encoder: Any, tokens: int, sample: int) -> PartCall:
    config = encoder.config

    def run() -> Tensor:
        ids = torch.arange(tokens, device=encoder.device)[None] + sample
        output: Tensor = encoder(ids % config.vocab_size)[0]
        return output

    projected = component == "text_encoder_2"
    shape = (1, config.projection_dim) if projected else (1, tokens, config.hidden_size)
    return PartCall(torch.no_grad()(run), shape)


def _noise(model: Any, shape: tuple[int, ...], sample: int) -> Tensor:
    if model.device.type == "meta":
        return torch.empty(shape, device="meta", dtype=model.dtype)
    generator = torch.Generator().manual_seed(sample)
    return torch.randn(shape, generator=generator).to(model.device, model.dtype)
