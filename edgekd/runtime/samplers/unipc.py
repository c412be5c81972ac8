"""Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion
Models" (arXiv 2302.04867)."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.samplers.multistep import make_levels
from edgekd.runtime.samplers.sampler import Draw, F32Array, F64Array, Unscaled
from edgekd.runtime.scheduler_config import SchedulerConfig


class UniPc(Unscaled):
    """Algorithms 5 and 6 (UniC and UniP): each output first corrects the step that led to it, then
    predicts the next. Outputs are pictures, or noise without `predict_x0`."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        self._levels = make_levels(config, steps)
        self.timesteps = self._levels.timesteps
        self._outputs: list[F32Array] = []  # newest first
        self._start = np.zeros(0, np.float32)  # the latents that the last step started from
        self._order = 0  # of the last step

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        config = self.config
        convert = self._levels.picture if config.predict_x0 else self._levels.epsilon
        converted = convert(config, x, output, index)
        if index > 0 and index - 1 not in config.disable_corrector:
            x = self._move(self._start, index - 1, converted)
        self._outputs = [converted, *self._outputs][: config.solver_order]
        left = len(self.timesteps) - index
        order = min(config.solver_order, left) if config.lower_order_final else config.solver_order
        self._order, self._start = min(order, index + 1), x
        return self._move(x, index, None)

    def _move(self, x: F32Array, index: int, ahead: F32Array | None) -> F32Array:
        """From level `index` to the next: predicted, or corrected by the output found there."""
        levels = self._levels
        with np.errstate(divide="ignore", invalid="ignore"):
            h = levels.lambdas[index + 1] - levels.lambdas[index]
            h = -h if self.config.predict_x0 else h
            known = self._ratios(index)
            weights = self._weights(h, known, ahead is not None)
            # Of x, and of what is integrated: pictures count by alpha, noise by sigma.
            carried, integrated = levels.sigma, levels.alpha
            if not self.config.predict_x0:
                carried, integrated = integrated, carried
            of_x = np.float32(carried[index + 1] / carried[index])
            of_newest = np.float32(integrated[index + 1] * np.expm1(h))
            scale = integrated[index + 1] * self._b(h)
            of_rest = [np.float32(scale * weight) for weight in weights]
            inverse = [np.float32(1 / ratio) for ratio in known] + [np.float32(1)]
        newest, *older = self._outputs[: self._order]
        others = older if ahead is None else [*older, ahead]
        following = of_x * x - of_newest * newest
        for weight, over, other in zip(of_rest, inverse, others, strict=False):
            following = following - weight * (over * (other - newest))
        return np.asarray(following, np.float32)

    def _ratios(self, index: int) -> F64Array:
        """Where older outputs lie, in steps from level `index` on: r_1 to r_(order - 1)."""
        lambdas = self._levels.lambdas
        older = lambdas[index - np.arange(1, self._order)] - lambdas[index]
        return np.asarray(older / (lambdas[index + 1] - lambdas[index]), np.float64)

    def _b(self, h: np.float64) -> np.float64:
        return h if self.config.solver_type == "bh1" else np.expm1(h)

    def _weights(self, h: np.float64, known: F64Array, corrects: bool) -> F64Array:
        """Of the differences to the newest output: equation 8, R rho = b; the lowest orders are
        set to 1/2, as the paper's section 3.2 says."""
        order = self._order
        unknowns = order if corrects else order - 1
        if unknowns < 2:
            return np.full(unknowns, 0.5)
        ratios = np.append(known, 1.0)[:unknowns]
        matrix = ratios ** np.arange(unknowns)[:, None]
        phi, factorial, right = np.expm1(h) / h - 1, 1.0, []
        for power in range(1, unknowns + 1):
            right.append(phi * factorial / self._b(h))
            factorial *= power + 1
            phi = phi / h - 1 / factorial
        return np.linalg.solve(matrix, np.array(right))
