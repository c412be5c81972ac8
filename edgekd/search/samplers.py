"""Optuna's samplers by name, for studies of three objectives over categorical dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, get_args

from edgekd.errors import InputError
from edgekd.recipe_search import SamplerName

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS: Final[tuple[str, ...]] = get_args(SamplerName)


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A seeded sampler.

    - `tpe`: tree-structured Parzen estimators (Watanabe, arXiv 2304.11127), multivariate.
    - `nsga2`: NSGA-II (Deb et al., IEEE TEC 6(2), 2002).
    - `gp`: a Gaussian process with expected hypervolume improvement; slow, frugal.
    - `random`: uniform and independent.

    Raises:
        InputError: another name.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    made: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed),
        "gp": lambda: samplers.GPSampler(seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
    }
    if name not in made:
        raise InputError(f"the sampler must be one of {', '.join(SAMPLERS)}", repr(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # GP: new, and chosen by name
        return made[name]()
