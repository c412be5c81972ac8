"""How a precision computes a part: what an exporter says, and `edgekd.export.simulate` obeys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgekd.export.bits.storage import Array

Number = Literal["float64", "float32", "float16", "bfloat16"]
Kind = Literal["conv", "linear", "embedding"]

# In the names of `Apart`: a U-Net's first and last stage, which work at the size of the latents.
FINEST = "<finest>"


@dataclass(frozen=True)
class WeightRounding:
    """How the weights of one kind of layer are stored.

    Attributes:
        bits: of symmetric integers with one scale for each output channel, or each group of inputs.
        group: input values that share a scale; None: all of a channel.
        symmetric: else every group has a smallest value of its own.
        rounded: another way of a runtime: the weight [O, ...] as it restores it.
        least: weights of fewer elements stay floats.
    """

    bits: int
    group: int | None = None
    symmetric: bool = True
    rounded: Callable[[Array, int], Array] | None = None
    least: int = 0


@dataclass(frozen=True)
class Apart:
    """Layers that compute in floats where others of their kind do not.

    Attributes:
        names: a regular expression that is found in their names, perhaps with `FINEST`.
        weight: rounding of their weights; None: floats.
        kinds: of the layers.
    """

    names: str
    weight: WeightRounding | None = None
    kinds: tuple[Kind, ...] = ("conv", "linear", "embedding")

    def has(self, name: str, kind: Kind, finest: tuple[str, ...]) -> bool:
        stages = "|".join(re.escape(stage) for stage in finest)
        pattern = self.names.replace(FINEST, f"(?:{stages})")
        return kind in self.kinds and re.search(pattern, name) is not None


@dataclass(frozen=True)
class Arithmetic:
    """How a precision computes a part.

    Attributes:
        number: what everything is computed in. For `float32`, the noise of float32 itself.
        stored: type of the weights that are floats.
        conv, linear, embedding: rounding of the weights of such layers; None: floats.
        activation_bits: of the inputs of the kinds of layers in `activations`, whose range is that
            of each call, and of the inputs and outputs of those in `calibrated`, whose ranges are
            those of all calls that the export is calibrated on.
        kept: parts of names of layers that stay floats.
        apart: other exceptions; the first that has a layer counts.
        inputs: what the part's inputs are rounded to.
    """

    number: Number = "float32"
    stored: Number = "float32"
    conv: WeightRounding | None = None
    linear: WeightRounding | None = None
    embedding: WeightRounding | None = None
    activation_bits: int | None = None
    activations: tuple[Kind, ...] = ()
    calibrated: tuple[Kind, ...] = ()
    kept: tuple[str, ...] = ()
    apart: tuple[Apart, ...] = ()
    inputs: Number = "float32"

    def of(self, component: str) -> Arithmetic | None:
        """This, where torch can compute the part so: the mask of text encoders is float32."""
        return None if self.exact and component.startswith("text_encoder") else self

    @property
    def exact(self) -> bool:
        """Nothing is rounded but by float32's own sums."""
        return self == Arithmetic()

    @property
    def stored_only(self) -> bool:
        """Weights are floats or of 8 bits, and what is computed with them is float32."""
        computed = (self.number, self.inputs, self.activation_bits)
        rounded = (r for r in (self.conv, self.linear, self.embedding) if r is not None)
        fine = all((r.bits, r.group) == (8, None) for r in rounded)
        return fine and not self.exact and computed == ("float32", "float32", None)

    def exception(self, name: str, kind: Kind, finest: tuple[str, ...]) -> Apart | None:
        """What is said of one layer; None: nothing but of its kind."""
        if any(part in name for part in self.kept):
            return Apart(name)
        return next((apart for apart in self.apart if apart.has(name, kind, finest)), None)

    def weight(self, kind: Kind) -> WeightRounding | None:
        return {"conv": self.conv, "linear": self.linear, "embedding": self.embedding}[kind]
