"""From the sum of a U-Net's blocks to the time of the whole graph.

A whole graph is not the sum of its blocks: runtimes fuse across them, weights no longer lie in the
cache, and some work belongs to no block. What form the correction has is decided by its error on
graphs that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from edgekd.search.block_times import F64, relative_least_squares

_FOLDS = 6
SUM = 0  # column of the sum of all blocks; see `edgekd.search.unet_work`
_CLEARLY = 0.75  # of the error of a simpler form; chance alone gives a fifth on a few dozen graphs
_FEW = 6  # whole graphs under which nothing but a scale can be fitted


# How the sum is corrected; the last two say what a regressor adds to `linear`.
Form = Literal["scale", "linear", "linear by kind", "gaussian process", "boosted trees"]


class Correction(Protocol):
    """Times of whole graphs, one a row of features."""

    def __call__(self, rows: F64) -> F64: ...


@dataclass(frozen=True)
class Weighted:
    """a + sum of c_i x_i over some columns, all coefficients >= 0."""

    columns: tuple[int, ...]
    coefficients: F64

    def __call__(self, rows: F64) -> F64:
        found: F64 = self.coefficients[0] + rows[:, self.columns] @ self.coefficients[1:]
        return found


@dataclass(frozen=True)
class OnResidual:
    """A base, times exp of what a regressor of scikit-learn says of the standardised features."""

    base: Correction
    mean: F64
    spread: F64
    regressor: Any

    def __call__(self, rows: F64) -> F64:
        told = self.regressor.predict((rows - self.mean) / self.spread)
        found: F64 = self.base(rows) * np.exp(told)
        return found


def fit_scale(rows: F64, times: F64) -> Correction:
    """The median ratio; without whole graphs the sum itself."""
    ratio = float(np.median(times / rows[:, SUM])) if len(times) else 1.0
    return Weighted((SUM,), np.array([0.0, ratio]))


def _fit_weighted(columns: tuple[int, ...], rows: F64, times: F64) -> Weighted:
    design = np.column_stack([np.ones(len(rows)), rows[:, columns]])
    return Weighted(columns, relative_least_squares(design, times))


def fit_linear(rows: F64, times: F64) -> Correction:
    """a + b sum."""
    return _fit_weighted((SUM,), rows, times)


def fit_kinds(rows: F64, times: F64) -> Correction:
    """A coefficient for the sum of each kind, and for every count."""
    return _fit_weighted(tuple(range(1, rows.shape[1])), rows, times)


def _gaussian_process() -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1e-3, (1e-5, 1e-1)) * RBF(3.0, (0.5, 30.0)) + WhiteKernel(
        4e-4, (1e-5, 1e-2)
    )
    return GaussianProcessRegressor(kernel, random_state=0)


def _boosted() -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(
        n_estimators=40, max_depth=2, learning_rate=0.08, subsample=0.7, random_state=0
    )


def _on_residual(regressor: Callable[[], Any]) -> Callable[[F64, F64], Correction]:
    def fit(rows: F64, times: F64) -> Correction:
        import warnings

        base = fit_linear(rows, times)
        mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
        with warnings.catch_warnings():
            # A kernel's width at its bound is an answer: that feature says nothing.
            warnings.simplefilter("ignore")
            told = regressor().fit((rows - mean) / spread, np.log(times / base(rows)))
        return OnResidual(base, mean, spread, told)

    return fit


# The simplest first.
FITS: Mapping[Form, Callable[[F64, F64], Correction]] = {
    "scale": fit_scale,
    "linear": fit_linear,
    "linear by kind": fit_kinds,
    "gaussian process": _on_residual(_gaussian_process),
    "boosted trees": _on_residual(_boosted),
}


@dataclass(frozen=True)
class ChosenCorrection:
    """The form with the least held-out error, fitted on all.

    Attributes:
        held_out: each graph's time as told by fits that did not see it; empty: too few graphs.
    """

    form: Form
    correction: Correction
    held_out: F64


def choose(rows: F64, times: F64) -> ChosenCorrection:
    """Choose a correction by cross-validation: the least mean relative error held out, where a form
    with more freedom must be better by more than chance easily gives."""
    if len(times) < _FEW:
        return ChosenCorrection("scale", fit_scale(rows, times), np.array([]))
    told = {form: held_out(fit, rows, times) for form, fit in FITS.items()}
    wrong = {form: float(np.abs(told[form] / times - 1).mean()) for form in FITS}
    form: Form = "scale"
    for other in FITS:
        if wrong[other] < _CLEARLY * wrong[form]:
            form = other
    return ChosenCorrection(form, FITS[form](rows, times), told[form])


def held_out(fit: Callable[[F64, F64], Correction], rows: F64, times: F64) -> F64:
    """What a fit on the other folds says of each row; the division is seeded."""
    order = np.random.default_rng(0).permutation(len(times))
    told = np.zeros(len(times))
    for part in np.array_split(order, min(_FOLDS, len(times))):
        rest = np.setdiff1d(order, part)
        told[part] = fit(rows[rest], times[rest])(rows[part])
    return told
