"""First weights of an `AutoencoderTiny` for a teacher's U-Nets: random ones.

None of its layers corresponds to one of an `AutoencoderKL`, so nothing is inherited or fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from edgekd.libraries import diffusers


def build_tiny_vae(config: Mapping[str, Any], seed: int) -> Any:
    """An `AutoencoderTiny` on the CPU, trainable and in evaluation mode.

    Args:
        config: see `edgekd.student.decoder.tiny_vae_config`.
        seed: of its weights; no other random number is drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = diffusers.AutoencoderTiny.from_config(dict(config))
    return vae.requires_grad_(True).eval()
