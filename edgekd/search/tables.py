"""What steps, the decoder's width and the precision cost in quality: measured, not guessed.

The starter's figures stand in `starter_quality.yaml`, with the runs that they come from; a recipe
names a file of its own in `search.quality_tables`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, field_validator

from edgekd.errors import InputError
from edgekd.schema import Section, load_yaml, validate

STARTER_QUALITY = Path(__file__).with_name("starter_quality.yaml")
Kept = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1)]
Number = TypeVar("Number", int, float)
_FIX = "Ask for another, or name tables that have it in `search.quality_tables`."


class QualityTables(Section):
    """Shares of the teacher's quality that are kept, each with all else as in the teacher."""

    measured: str = Field(..., min_length=1, description="on what, as reports say it")
    steps: dict[Steps, Kept] = Field(..., min_length=1, description="by denoising steps")
    decoder_width: dict[Kept, Kept] = Field(
        ..., min_length=1, description="by the share of the VAE's channels that stays"
    )
    precision: dict[str, Kept] = Field(..., description="by name; no other is accepted")
    slope: float = Field(
        ..., gt=0, description="of `kept = exp(-slope * damage)`, fitted to distilled students"
    )
    capacity: float = Field(
        ..., ge=0, description="exponent of the U-Net's share of the teacher's parameters"
    )

    @field_validator("steps", "decoder_width")
    @classmethod
    def _rises(cls, points: dict[Number, float]) -> dict[Number, float]:
        rows = dict(sorted(points.items()))
        for (low, less), (high, more) in pairwise(rows.items()):
            if less > more:
                raise ValueError(
                    f"more must not keep less, but got {low:g}: {less:g} and {high:g}: {more:g}"
                )
        return rows

    def of_steps(self, steps: int, field: str = "search.steps") -> float:
        """Kept with so many steps; linear in their logarithm between measurements.

        Args:
            field: that asks for them, for the message.

        Raises:
            InputError: as `interpolate`.
        """
        return interpolate(self.steps, steps, field, math.log)

    def of_decoder(self, width: float) -> float:
        """Kept with a decoder of this share of the channels; linear between measurements.

        Raises:
            InputError: as `interpolate`.
        """
        return interpolate(self.decoder_width, width, "search.decoder_widths", float)

    def offering(self, precisions: tuple[str, ...]) -> QualityTables:
        """The tables for a target; where it offers one precision there is nothing to compare."""
        if len(precisions) > 1:
            return self
        own = {name: self.precision.get(name, 1.0) for name in precisions}
        return self.model_copy(update={"precision": {**self.precision, **own}})

    def of_precision(self, name: str) -> float:
        """Kept in a precision of the target's runtime.

        Raises:
            InputError: there is no row for it.
        """
        if name not in self.precision:
            raise InputError(
                "`search.precisions` must be among those that the quality tables cover "
                f"({', '.join(self.precision)})",
                repr(name),
                _FIX,
            )
        return self.precision[name]


def read_tables(path: Path = STARTER_QUALITY) -> QualityTables:
    """Tables of a YAML file.

    Raises:
        InputError: the file cannot be read, or does not follow the schema.
    """
    return validate(QualityTables, load_yaml(path), f"`{path}`")


def interpolate(
    points: Mapping[Number, float], x: Number, field: str, scale: Callable[[float], float]
) -> float:
    """Linear between the neighbours of `x` on a scale; monotone where the points are.

    Args:
        points: rising.
        field: of the recipe or the suite that asks for `x`, for the message.
        scale: of the x axis, rising.

    Raises:
        InputError: `x` lies outside of what was measured.
    """
    known = list(points)
    if not known[0] <= x <= known[-1]:
        raise InputError(
            f"`{field}` must be from {known[0]:g} to {known[-1]:g}, which the quality tables cover",
            f"{x:g}",
            _FIX,
        )
    if x in points:
        return points[x]
    after = bisect_left(known, x)
    low, high = known[after - 1], known[after]
    share = (scale(x) - scale(low)) / (scale(high) - scale(low))
    return points[low] + share * (points[high] - points[low])
