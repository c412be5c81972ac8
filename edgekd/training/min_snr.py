"""Min-SNR weights of a diffusion loss. Shapes: [B] per-sample values."""

from __future__ import annotations

import torch
from torch import Tensor


def min_snr_weights(snr: Tensor, gamma: float | None, prediction_type: str) -> Tensor:
    """Min-SNR-gamma weights of a prediction's squared error (Hang et al. 2023, section 3.4).

    `epsilon`: `min(SNR, gamma) / SNR`; `v_prediction`: `min(SNR, gamma) / (SNR + 1)`. At an
    SNR of zero (zero-terminal-SNR schedules) these are 1 and 0, their limits.

    Args:
        snr: [B] signal-to-noise ratios, `alpha^2 / sigma^2`; 0 is allowed.
        gamma: largest SNR that counts; None: all weights are 1.
        prediction_type: `epsilon` or `v_prediction`.

    Returns:
        weights [B].
    """
    if gamma is None:
        return torch.ones_like(snr)
    if prediction_type == "epsilon":
        # min(SNR, g) / SNR = min(1, g / SNR), which needs no division by zero's limit.
        return (gamma / snr).clamp(max=1.0)
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1.0)
    raise ValueError(f"no min-SNR weights for {prediction_type}")
