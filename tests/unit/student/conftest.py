"""U-Nets for tests of weights: no two weights alike, so that a wrong index shows."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.diffusion.taps import output_tensor
from edgekd.libraries import diffusers


@pytest.fixture(params=["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher"])
def unet_config(request) -> dict[str, Any]:
    """The stored config of each kind of teacher's U-Net."""
    path = request.getfixturevalue(request.param) / "unet" / "config.json"
    return dict(json.loads(path.read_text()))


@pytest.fixture(scope="session")
def make_unet() -> Callable[..., Any]:
    """`make_unet(seed, **config)`: a U-Net with random weights, norms included."""
    return _make_unet


@pytest.fixture(scope="session")
def predict() -> Callable[[Any], Tensor]:
    """`predict(unet)`: its output on fixed inputs, [2, 4, h, w]."""
    return _predict


def _make_unet(seed: int = 0, **config: Any) -> Any:
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**config)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in unet.state_dict().items():
        fan_in = max(value[0].numel(), 1)
        state[name] = torch.randn(value.shape, generator=generator) * (
            fan_in**-0.5 if value.dim() > 1 else 0.3
        ) + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    unet.load_state_dict(state, strict=True, assign=True)
    return unet.eval()


def _predict(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = unet.config.sample_size
    latents = torch.randn(2, 4, size, size, generator=generator).to(unet.dtype)
    text = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator).to(unet.dtype)
    added = None
    if unet.config.addition_embed_type == "text_time":
        pooled = unet.config.projection_class_embeddings_input_dim
        pooled -= 6 * unet.config.addition_time_embed_dim
        added = {
            "text_embeds": torch.randn(2, pooled, generator=generator),
            "time_ids": torch.ones(2, 6),
        }
    with torch.no_grad():
        return output_tensor(
            unet(latents, torch.tensor([10, 700]), text, added_cond_kwargs=added)
        ).clone()
