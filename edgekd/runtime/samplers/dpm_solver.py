"""Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling" (arXiv 2211.01095), multistep."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.samplers.multistep import make_levels
from edgekd.runtime.samplers.sampler import Draw, F32Array, F64Array, Unscaled
from edgekd.runtime.scheduler_config import SchedulerConfig

_FEW = 15  # steps, below which the end is of lower order


class DpmSolver(Unscaled):
    """Algorithm 2 (2M), its third order, and SDE-DPM-Solver++ (appendix A) of the same orders."""

    def __init__(self, config: SchedulerConfig, steps: int) -> None:
        self.config = config
        self._levels = make_levels(config, steps)
        self.timesteps = self._levels.timesteps
        self._pictures: list[F32Array] = []  # predicted, newest first
        self._adds_noise = config.algorithm_type == "sde-dpmsolver++"

    def step(self, output: F32Array, x: F32Array, index: int, draw: Draw) -> F32Array:
        picture = self._levels.picture(self.config, x, output, index)
        self._pictures = [picture, *self._pictures][: self.config.solver_order]
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = self._weights(index)
        following = weights[0] * x
        for weight, one in zip(weights[1:], self._pictures, strict=False):
            following = following + weight * one
        if self._adds_noise:
            following = following + np.float32(self._noise(index)) * draw()
        return np.asarray(following, np.float32)

    def _order(self, index: int) -> int:
        """Of step `index`: earlier outputs must be there, and the end is of lower order, where
        higher ones are unstable or, at no noise, infinite."""
        config, left = self.config, len(self.timesteps) - index
        few = config.lower_order_final and len(self.timesteps) < _FEW
        order = min(config.solver_order, index + 1)
        if left == 1 and (few or config.euler_at_final or config.final_sigmas_type == "zero"):
            return 1
        return min(order, 2) if left == 2 and few else order

    def _weights(self, index: int) -> list[np.float32]:
        """Of x and of the predicted pictures, newest first.

        z is the step h in lambda, twice as long with noise. D1 and D2 are differences of pictures
        in terms of lambda, and end as weights of the pictures themselves.
        """
        levels, order = self._levels, self._order(index)
        h = levels.lambdas[index + 1] - levels.lambdas[index]
        z = 2 * h if self._adds_noise else h
        alpha, of_x = levels.alpha[index + 1], levels.sigma[index + 1] / levels.sigma[index]
        if self._adds_noise:
            of_x = of_x * np.exp(-h)
        gain = alpha * -np.expm1(-z)
        weights = np.zeros(4)
        weights[:2] = of_x, gain
        if order == 2:
            midpoint = self.config.solver_type == "midpoint"
            first = gain / 2 if midpoint else alpha * (np.expm1(-z) / z + 1)
            r0 = (levels.lambdas[index] - levels.lambdas[index - 1]) / h
            weights[1:3] += np.array([1, -1]) / r0 * first
        if order == 3:
            weights[1:4] += self._third_order(index, h, z) * alpha
        return [np.float32(weight) for weight in weights[: order + 1]]

    def _third_order(self, index: int, h: np.float64, z: np.float64) -> F64Array:
        """Weights of three pictures through D1 and D2, over alpha."""
        lambdas = self._levels.lambdas
        r0, r1 = ((lambdas[index - k] - lambdas[index - k - 1]) / h for k in (0, 1))
        near, far = np.array([1, -1, 0]) / r0, np.array([0, 1, -1]) / r1
        d1 = near + r0 / (r0 + r1) * (near - far)
        d2 = (near - far) / (r0 + r1)
        second = (np.expm1(-z) + z) / z**2
        # With noise, diffusers' constant has the other sign than the integral gives.
        of_d2 = -second - 0.5 if self._adds_noise else 0.5 - second
        return np.asarray((np.expm1(-z) / z + 1) * d1 + of_d2 * d2, np.float64)

    def _noise(self, index: int) -> float:
        levels = self._levels
        h = levels.lambdas[index + 1] - levels.lambdas[index]
        return float(levels.sigma[index + 1] * np.sqrt(-np.expm1(-2 * h)))
