"""What a U-Net predicts, noise or velocity: said by the file, or found out by asking the U-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd.diffusion.components import load_tokenizer
from edgekd.diffusion.load import load_model
from edgekd.diffusion.single_file.checkpoint import V_MARK, ZERO_SNR_MARK, CheckpointFile
from edgekd.diffusion.validate import Prediction

_LAST_TIMESTEP = 999
_SIDE = 32  # of latents: enough pixels for a correlation, little work
# A model of noise gives back its input almost unchanged (a correlation near 1); of a velocity
# sqrt(alpha_bar) e - sqrt(1 - alpha_bar) x0, with alpha_bar = 0.005, little of the noise is left.
_MIN_CORRELATION = 0.5


def said_prediction(checkpoint: CheckpointFile) -> Prediction | None:
    """What a file says by its marks and metadata; None: nothing."""
    if V_MARK in checkpoint.tensors or ZERO_SNR_MARK in checkpoint.tensors:
        return "v_prediction"
    metadata = checkpoint.metadata
    if metadata.get("ss_v_parameterization", "").lower() == "true":
        return "v_prediction"
    said = metadata.get("modelspec.prediction_type", "").lower()
    known: dict[str, Prediction] = {
        "epsilon": "epsilon",
        "v": "v_prediction",
        "v_prediction": "v_prediction",
    }
    return known.get(said)


def tried_prediction(folder: Path) -> Prediction:
    """What the U-Net of a pipeline folder predicts, by what it makes of pure noise.

    Args:
        folder: with `unet`, `text_encoder` and `tokenizer`; the scheduler is not looked at.
    """
    encoder = load_model(folder, "text_encoder")
    tokenizer = load_tokenizer(folder / "tokenizer")
    tokens = tokenizer(
        "", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    with torch.no_grad():
        text = encoder(tokens.input_ids)[0]
    del encoder
    correlation = noise_correlation(load_model(folder, "unet"), text)
    return "epsilon" if correlation > _MIN_CORRELATION else "v_prediction"


@torch.no_grad()
def noise_correlation(unet: Any, text: Tensor) -> float:
    """Correlation of a U-Net's output with its input of pure noise at the last timestep.

    Args:
        text: embeddings of the empty prompt, [1, tokens, width].
    """
    shape = (1, unet.config.in_channels, _SIDE, _SIDE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    output = unet(noise, _LAST_TIMESTEP, text, return_dict=False)[0]
    pair = torch.stack([noise.flatten(), output.float().flatten()])
    return float(torch.corrcoef(pair)[0, 1])
