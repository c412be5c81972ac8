"""The choices that can be made for one pipeline: their sizes, and their noise as it is measured.

A choice is a list with the index of each unit's option: 0 is floats, then the unit's numbers of
bits, most first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.bits.allocate import Option
from edgekd.export.bits.cache import Noise, NoiseMeasurements
from edgekd.export.bits.recipe import RecipeSource
from edgekd.export.bits.sensitivity import RepeatedDrawing
from edgekd.export.bits.storage import WeightStorage
from edgekd.export.bits.weights import Bits, Unit, draws, make_units, stored_bytes, weights
from edgekd.export.manifest import versions
from edgekd.export.record import Session
from edgekd.files import code_key
from edgekd.progress import Progress, format_seconds

# Units of one component: the starter's U-Net keeps each attention and each residual block apart,
# SD 1.5's too, and twice this many drawings of it are what one can wait for.
UNITS_PER_COMPONENT = 128
_MEASURED_CHOICES = 2
# In more bits, the units that make this share of the noise are measured too: a small tensor's error
# is a sample of its own in each number of bits, and need not follow the rule of large ones.
_MEASURED_SHARE = 0.9
# Pictures are in [0,1]: no error is larger, and one that is not finite counts as this.
_WORST = 1.0


@dataclass(frozen=True)
class MeasuredPipeline:
    """What bits are chosen for, and the pictures that judge them.

    Attributes:
        pipeline: diffusers pipeline in float32.
        source: its content hash and class; measurements of another one are not used.
        session: one picture for each prompt.
    """

    pipeline: Any
    source: RecipeSource
    storage: WeightStorage
    session: Session


class Choices:
    """The units of a pipeline, the drawing that measures them, and what was measured."""

    def __init__(self, measured: MeasuredPipeline, cache_folder: Path, progress: Progress) -> None:
        self._progress = progress
        self.measured = measured
        self.storage = measured.storage
        started = time.monotonic()
        self.drawing = RepeatedDrawing(measured.pipeline, measured.session, measured.storage)
        self._draw_seconds = time.monotonic() - started
        self.units = [
            unit
            for component, model in self.drawing.models.items()
            for unit in make_units(component, model, self.storage, UNITS_PER_COMPONENT)
        ]
        self._measurements = NoiseMeasurements(cache_folder, self.circumstances(measured.session))

    def options(self) -> list[list[Option]]:
        """Bytes and noise of every option of every unit; what is not known yet is measured."""
        wanted = [(unit, bits) for unit in self.units for bits in unit.choices[-_MEASURED_CHOICES:]]
        self._announce(wanted)
        self._measure_units("sensitivity", wanted)
        loudest = self._loudest()
        self._measure_units("loudest units in more bits", loudest)
        measured = {(unit.component, unit.name, bits) for unit, bits in (*wanted, *loudest)}

        def noise(unit: Unit, bits: int) -> float:
            # Not whatever happens to be known: the choice must not depend on earlier ones.
            known = (unit.component, unit.name, bits) in measured
            return self._alone(unit, bits) if known else self._predicted(unit, bits)

        return [
            [Option(self._unit_bytes(unit, None), 0.0)]
            + [
                Option(self._unit_bytes(unit, bits), min(noise(unit, bits), _WORST))
                for bits in unit.choices
            ]
            for unit in self.units
        ]

    def _measure_units(self, label: str, wanted: list[tuple[Unit, int]]) -> None:
        with self._progress.track(label, len(wanted)) as advance:
            for unit, bits in wanted:
                self._alone(unit, bits)
                advance(1)

    def _loudest(self) -> list[tuple[Unit, int]]:
        """The units that make most of the noise of bits that are not measured."""
        found: list[tuple[Unit, int]] = []
        for bits in self.all_choices():
            noises = [
                (self._predicted(unit, bits), index)
                for index, unit in enumerate(self.units)
                if bits in unit.choices[:-_MEASURED_CHOICES]
            ]
            rest = (1 - _MEASURED_SHARE) * sum(noise for noise, _ in noises)
            for noise, index in sorted(noises):
                rest -= noise
                if rest < 0:
                    found.append((self.units[index], bits))
        return found

    def _announce(self, wanted: list[tuple[Unit, int]]) -> None:
        open_ones = [
            unit
            for unit, bits in wanted
            if self._measurements.get({unit.component: unit.bits(bits)}) is None
        ]
        drawn = sum(unit.component != "vae" for unit in open_ones)
        self._progress.info(
            f"  sensitivity: {len(self.units)} units of weights, {drawn} drawings of "
            f"{len(self.measured.session.prompts)} pictures in {self.measured.session.steps} "
            f"steps, about "
            f"{format_seconds(drawn * self._draw_seconds)}, and {len(open_ones) - drawn} decodings "
            f"({len(wanted) - len(open_ones)} known from before)"
        )

    def _alone(self, unit: Unit, bits: int) -> float:
        """Noise of a unit alone in the pictures, as measured."""
        return self._noise({unit.component: unit.bits(bits)}).pictures

    def _predicted(self, unit: Unit, bits: int) -> float:
        """The same from the measurement in the next fewer bits, in the linear regime."""
        nearest = unit.choices[-_MEASURED_CHOICES:][0]
        error = self._weight_error(unit, nearest)
        ratio = self._weight_error(unit, bits) / error if error > 0 else 0.0
        return self._alone(unit, nearest) * ratio

    def _noise(self, bits: Mapping[str, Bits]) -> Noise:
        known = self._measurements.get(bits)
        if known is None:
            known = self.drawing.noise(bits)
            self._measurements.add(bits, known)
        return known

    def measure(self, chosen: list[int]) -> Noise:
        """Noise of a whole choice."""
        return self._noise(self.drawn_bits(chosen))

    def _weight_error(self, unit: Unit, bits: int) -> float:
        parameters = dict(self.drawing.models[unit.component].named_parameters())
        error = 0.0
        for weight in unit.weights:
            values = parameters[weight.name].detach().cpu().numpy()
            error += float(np.sum((values - self.storage.rounded(values, bits)) ** 2))
        return error

    def uniform(self, bits: int) -> list[int]:
        """All units in so many bits, or the next higher number that there is for them."""
        return [
            1 + max((i for i, b in enumerate(unit.choices) if b >= bits), default=-1)
            for unit in self.units
        ]

    def all_choices(self) -> list[int]:
        return sorted({bits for unit in self.units for bits in unit.choices}, reverse=True)

    def drawn_bits(self, chosen: list[int]) -> dict[str, Bits]:
        """Bits of the weights that take part in drawing."""
        result: dict[str, Bits] = {name: {} for name in self.drawing.models}
        for unit, index in zip(self.units, chosen, strict=True):
            result[unit.component] |= unit.bits((None, *unit.choices)[index])
        return result

    def all_bits(self, chosen: list[int]) -> dict[str, Bits]:
        """Bits of every weight of a choice, also of those that are in no unit: weights that do not
        take part in drawing have the most bits there are, small ones are floats."""
        result: dict[str, Bits] = {}
        drawn = self.drawn_bits(chosen)
        for component, model in self.drawing.models.items():
            result[component] = {
                name: drawn[component].get(name)
                if draws(component, name)
                else max(self.storage.choices(weight.kind, weight.shape), default=None)
                for name, weight in weights(model).items()
            }
        return result

    def _unit_bytes(self, unit: Unit, bits: int | None) -> int:
        return sum(self.storage.stored_bytes(weight.shape, bits) for weight in unit.weights)

    def bytes(self, chosen: list[int]) -> int:
        """All parameters of all components."""
        bits = self.all_bits(chosen)
        return sum(
            stored_bytes(model, bits[name], self.storage)
            for name, model in self.drawing.models.items()
        )

    def fixed_bytes(self) -> int:
        """What no choice changes."""
        floats = [0] * len(self.units)
        return self.bytes(floats) - sum(self._unit_bytes(unit, None) for unit in self.units)

    def circumstances(self, session: Session) -> dict[str, object]:
        """Everything that a measurement depends on beyond what is rounded."""
        return {
            "source": self.measured.source.hash,
            "method": self.storage.method,
            "session": session.model_dump(),
            "versions": versions(),
            "code": code_key(),
        }
