"""What a sampler is.

x: latents [B,c,h,w] at one noise level, float32; output: what the U-Net predicts for them, same
shape. alpha_bar: share of the picture's variance left at a level (arXiv 2006.11239); sigma:
standard deviation of the noise over the picture's scale, sqrt((1 - alpha_bar) / alpha_bar)
(Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
arXiv 2206.00364).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

F32Array = npt.NDArray[np.float32]
F64Array = npt.NDArray[np.float64]
Draw = Callable[[], F32Array]  # fresh standard normal noise of the latents' shape


class Sampler(Protocol):
    """One session: its steps are taken once, in order. Some remember earlier outputs.

    N calls of the U-Net; more than the session's steps where a method takes several for a step.

    Attributes:
        timesteps: what the U-Net is told at each call, float32 [N].
        initial_scale: standard deviation of the latents that the session starts from.
    """

    timesteps: F32Array
    initial_scale: float

    def model_input(self, x: F32Array, index: int) -> F32Array:
        """The latents as the U-Net wants them at call `index`."""

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        """The latents after call `index`; `draw` is called where the sampler adds noise."""


class Unscaled:
    """Samplers whose latents keep the model's own variance."""

    initial_scale = 1.0

    def model_input(self, x: F32Array, index: int) -> F32Array:
        return x
