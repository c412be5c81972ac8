"""Choose bits by measurement: each unit's noise in the pictures, a knapsack, and the truth.

1. Each unit of weights (`edgekd.export.bits.weights.make_units`) is rounded alone, to the two
   lowest numbers of bits that the runtime has for it, and the pictures are drawn. More bits are in
   the linear regime: their noise follows from the second measurement by the ratio of the squared
   weight errors.
2. The noises of several units are taken as additive: roundings are independent of each other, and
   small errors pass the network linearly. A knapsack then gives the smallest choice within an
   allowance of noise, or the quietest within a size.
3. The whole choice is drawn. Where its noise is not what was allowed, as noises do not quite add
   up, the allowance is corrected and the knapsack solved again: bits are given back, or taken,
   where that costs least.
4. The choice is drawn from prompts and noise that it was not made on (`HeldOut`). Where it loses
   more there than it may, the allowance is lowered by the excess, and so on. Uniform 8 bits lose
   nothing by definition: a choice that is larger than they are is not taken.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import GateError, InputError
from edgekd.export.bits.allocate import Option, quietest, smallest, total
from edgekd.export.bits.choices import Choices, MeasuredPipeline
from edgekd.export.bits.held_out import HeldOut
from edgekd.export.bits.recipe import (
    FLOAT,
    ChoiceFigures,
    ComponentRecipe,
    QuantizationRecipe,
    resolve,
)
from edgekd.export.bits.sensitivity import noise_db
from edgekd.export.bits.storage import WeightStorage
from edgekd.export.bits.weights import Bits
from edgekd.progress import Progress

# How often an allowance is corrected, and when the result is as good as it needs to be.
_CORRECTIONS = 8
_CLOSE_DB = 0.1
# How often bits are given back for held-out pictures, and the least step.
_BACK_OFFS = 6
_BACK_OFF_DB = 0.5


@dataclass(frozen=True)
class BitBounds:
    """What is asked of a choice; at least one of the two.

    Attributes:
        max_drop_db: the pictures' PSNR may be this far below that of uniform 8-bit weights (the
            most bits that the runtime has) in the same runtime, that of the measured prompts and
            the mean of held-out ones: the smallest such choice that is found is taken.
        size_budget_bytes: bound of the weights of all parts. Without `max_drop_db` the quietest
            choice within it is taken.
    """

    max_drop_db: float | None = None
    size_budget_bytes: int | None = None

    def __post_init__(self) -> None:
        drop, budget = self.max_drop_db, self.size_budget_bytes
        if drop is None and budget is None:
            raise InputError("`--quantize auto` needs --max-drop or --size-budget", "neither")
        if drop is not None and not 0 <= drop < math.inf:
            raise InputError("`--max-drop >= 0` dB must hold", str(drop))
        if budget is not None and budget <= 0:
            raise InputError("`--size-budget > 0` must hold", str(budget))


def choose_bits(
    measured: MeasuredPipeline, bounds: BitBounds, cache_folder: Path, progress: Progress
) -> QuantizationRecipe:
    """Measure a pipeline and choose the bits of its weights.

    The same pipeline, session and bounds give the same recipe.

    Args:
        cache_folder: keeps measurements; those that are there are not made again.

    Raises:
        GateError: no choice does what is asked.
    """
    choices = Choices(measured, cache_folder, progress)
    # Uniform bits are choices like any other: none that is worse than they are can be the result.
    candidates = [choices.uniform(bits) for bits in choices.all_choices()]
    # Before minutes of measurements, which make nothing smaller than the fewest bits.
    _check_least(min(choices.bytes(bits) for bits in candidates), bounds)
    held_out = HeldOut(choices, cache_folder)
    options = choices.options()
    uniform = choices.measure(choices.uniform(8)).pictures
    if not math.isfinite(uniform):
        raise GateError("uniform 8-bit weights must draw finite pictures", "NaN or infinity")
    if bounds.max_drop_db is not None:
        best = _smallest_proven(
            choices, held_out, options, candidates, bounds.max_drop_db, progress
        )
    else:
        best = _quietest_within(choices, options, candidates, bounds.size_budget_bytes or 0)
    _check_budget(choices.bytes(best), bounds)
    return _recipe(choices, held_out, options, best)


def _smallest_proven(
    choices: Choices,
    held_out: HeldOut,
    options: list[list[Option]],
    candidates: list[list[int]],
    drop_db: float,
    progress: Progress,
) -> list[int]:
    """The smallest choice within the drop on the measured prompts, and on held-out ones."""
    uniform = choices.uniform(8)
    allowed = choices.measure(uniform).pictures * 10 ** (drop_db / 10)
    for _ in range(_BACK_OFFS):
        chosen = _smallest_within(choices, options, candidates, allowed)
        if choices.bytes(chosen) > choices.bytes(uniform):
            break
        lost = held_out.measure(chosen).drop_db
        if lost <= drop_db:
            return chosen
        progress.info(
            f"  {choices.bytes(chosen) / 1e6:.2f} MB: {lost:.2f} dB are lost on "
            f"{len(held_out.prompts)} held-out prompts, {drop_db:g} are allowed; bits are given "
            "back"
        )
        allowed *= 10 ** (-max(lost - drop_db, _BACK_OFF_DB) / 10)
    return uniform


def _smallest_within(
    choices: Choices, options: list[list[Option]], candidates: list[list[int]], allowed: float
) -> list[int]:
    """The smallest choice whose measured noise is at most `allowed`."""
    tried = [*candidates, *_along_the_frontier(choices, options, allowed)]
    fitting = [chosen for chosen in tried if choices.measure(chosen).pictures <= allowed]
    return min(
        fitting,
        key=lambda chosen: (choices.bytes(chosen), choices.measure(chosen).pictures),
        default=[0] * len(options),  # floats are quiet enough for anything
    )


def _along_the_frontier(
    choices: Choices, options: list[list[Option]], allowed: float
) -> list[list[int]]:
    """Smallest choices for better and better allowances, until what is measured is `allowed`."""
    tried: list[list[int]] = []
    factor, low, high = 1.0, 0.0, math.inf
    for _ in range(_CORRECTIONS):
        chosen = smallest(options, allowed * factor)
        if chosen is None or chosen in tried:
            break
        tried.append(chosen)
        measured = choices.measure(chosen).pictures
        ratio = allowed / max(measured, float(np.finfo(np.float64).tiny))
        low, high = (factor, high) if ratio >= 1 else (low, factor)
        if 1 <= ratio < 10 ** (_CLOSE_DB / 10):
            break
        factor *= ratio
        if not low < factor < high:
            factor = math.sqrt(low * high) if low > 0 and high < math.inf else (low or high)
    return tried


def _quietest_within(
    choices: Choices, options: list[list[Option]], candidates: list[list[int]], budget: int
) -> list[int]:
    chosen = quietest(options, budget - choices.fixed_bytes())
    assert chosen is not None  # the fewest bits fit
    fitting = [bits for bits in candidates if choices.bytes(bits) <= budget]
    best = min([chosen, *fitting], key=lambda bits: choices.measure(bits).pictures)
    if not math.isfinite(choices.measure(best).pictures):
        raise GateError(
            f"the weights must draw finite pictures in --size-budget {budget} bytes",
            "NaN or infinity in the quietest choice",
        )
    return best


def _check_least(least: int, bounds: BitBounds) -> None:
    if bounds.size_budget_bytes is not None and least > bounds.size_budget_bytes:
        raise GateError(
            f"the weights must fit in --size-budget {bounds.size_budget_bytes} bytes",
            f"at least {least} bytes in the fewest bits",
        )


def _check_budget(size: int, bounds: BitBounds) -> None:
    if bounds.size_budget_bytes is not None and size > bounds.size_budget_bytes:
        raise GateError(
            f"the weights must fit in --size-budget {bounds.size_budget_bytes} bytes with the "
            f"pictures at most {bounds.max_drop_db:g} dB below uniform 8-bit weights (--max-drop), "
            "on held-out prompts too",
            f"{size} bytes, the smallest choice that keeps --max-drop",
            "Raise one of the two.",
        )


def _recipe(
    choices: Choices, held_out: HeldOut, options: list[list[Option]], chosen: list[int]
) -> QuantizationRecipe:
    drawing, session = choices.drawing, choices.measured.session
    bits = choices.all_bits(chosen)
    noise, uniform = choices.measure(chosen), choices.measure(choices.uniform(8))
    return QuantizationRecipe(
        format=1,
        method=choices.storage.method,
        components={
            name: _component_recipe(name, bits[name], model, choices.storage)
            for name, model in drawing.models.items()
        },
        source=choices.measured.source,
        measured=ChoiceFigures(
            psnr_db=_db(noise.pictures),
            predicted_psnr_db=_db(total(options, chosen).noise),
            latents_psnr_db=_db(noise.latents, drawing.latents_peak),
            drop_db=round(noise_db(uniform.pictures) - noise_db(noise.pictures), 2),
            weights_bytes=choices.bytes(chosen),
            uniform_psnr_db=_db(uniform.pictures),
            uniform_weights_bytes=choices.bytes(choices.uniform(8)),
            float_weights_bytes=choices.bytes([0] * len(chosen)),
            units=len(chosen),
            prompts=list(session.prompts),
            steps=session.steps,
            guidance_scale=session.guidance_scale,
            seed=session.seed,
            held_out=held_out.measure(chosen),
        ),
    )


def _db(power: float, peak: float = 1.0) -> float:
    return round(noise_db(power, peak), 2)


def _component_recipe(name: str, bits: Bits, model: Any, storage: WeightStorage) -> ComponentRecipe:
    """The most frequent number of bits as the default, and what differs from it by name."""
    counts = Counter(value for value in bits.values() if value is not None)
    default = max(counts, key=lambda value: (counts[value], value), default=FLOAT)
    bare = QuantizationRecipe(
        format=1, method=storage.method, components={name: ComponentRecipe(default=default)}
    )
    implied = resolve(bare, {name: model}, storage)[name]
    return ComponentRecipe(
        default=default,
        bits={
            tensor: FLOAT if bits.get(tensor) is None else bits[tensor]
            for tensor in implied
            if implied[tensor] != bits.get(tensor)
        },
    )
