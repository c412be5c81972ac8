"""How a runtime stores weights in few bits: what an exporter declares, and linear rounding.

Linear symmetric rounding with one scale per output channel o, b bits:

    L = 2^(b-1) - 1,   s_o = max |w_o| / L,   code = clip(round(w / s_o), -L, L),   w' = code * s_o

(Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, section 2, without a zero point.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edgekd.errors import GateError

if TYPE_CHECKING:
    from edgekd.export.protocol import Conversion, Facts

Array = npt.NDArray[np.float32]


class WeightStorage(Protocol):
    """One way of a runtime to store weights.

    Attributes:
        method: its name in recipes, such as `linear` or `palette`.
        float_bits: bits of a weight that is not quantized.
    """

    @property
    def method(self) -> str: ...

    @property
    def float_bits(self) -> int: ...

    def choices(self, kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Bits in which a weight can be stored, most first; empty: only as a float.

        Args:
            kind: `conv`, `linear` or `embedding`.
            shape: [O, ...].
        """

    def rounded(self, weight: Array, bits: int) -> Array:
        """The weight [O, ...] as the runtime restores it."""

    def stored_bytes(self, shape: tuple[int, ...], bits: int | None) -> int:
        """Size of a stored tensor, scales or tables included; None: as a float."""


@dataclass(frozen=True)
class PartBits:
    """How the weights of a part are stored.

    Attributes:
        method: of the runtime's storage.
        bits: by torch's names; weights that are not named stay floats.
    """

    method: str
    bits: dict[str, int]


@runtime_checkable
class StoresBits(Protocol):
    """What an exporter has besides, that can store each weight in bits of its own.

    Attributes:
        weight_storages: its methods; the first is the one that `--quantize auto` uses.
    """

    weight_storages: tuple[WeightStorage, ...]

    def convert_bits(self, part: Conversion, bits: PartBits) -> Facts:
        """As `edgekd.export.protocol.Exporter.convert`, with the weights in the bits given."""


@dataclass(frozen=True)
class LinearStorage:
    """Linear symmetric integers with one float32 scale per output channel.

    Attributes:
        bits: kind of weight -> bits, most first.
        min_elements: smaller tensors stay floats; what restores them would outweigh them.
    """

    bits: Mapping[str, tuple[int, ...]]
    float_bits: int = 32
    min_elements: int = 1024
    method: str = "linear"

    def choices(self, kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.bits.get(kind, ()) if math.prod(shape) >= self.min_elements else ()

    def rounded(self, weight: Array, bits: int) -> Array:
        codes, scale = linear_codes(weight, bits)
        return codes.astype(np.float32) * scale

    def stored_bytes(self, shape: tuple[int, ...], bits: int | None) -> int:
        elements = math.prod(shape)
        if bits is None:
            return elements * self.float_bits // 8
        return math.ceil(elements * bits / 8) + 4 * shape[0]


def linear_codes(
    weight: Array, bits: int, axis: int = 0, name: str = "weight"
) -> tuple[npt.NDArray[np.int8], Array]:
    """Symmetric linear rounding with one scale per index of `axis`.

    Args:
        weight: any shape.
        bits: 2 to 8.
        axis: the axis of output channels.

    Returns:
        Codes of the same shape in [-L, L], and scales that broadcast against them;
        `codes * scales` is within half a scale of the weight.

    Raises:
        GateError: a weight is NaN or infinite.
    """
    if not np.isfinite(weight).all():
        raise GateError("weights must be finite", f"NaN or infinity in `{name}`")
    largest_code = 2 ** (bits - 1) - 1
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    # A channel of zeros has codes of zero under any scale but zero.
    scale = np.maximum(largest / largest_code, np.finfo(np.float32).tiny).astype(np.float32)
    codes = np.clip(np.rint(weight / scale), -largest_code, largest_code).astype(np.int8)
    return codes, scale
