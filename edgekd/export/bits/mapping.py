"""Find torch's weights again among the constants of a converted model, by content.

Converters rename weights, transpose those of linear layers and merge equal ones; the numbers stay
the same as long as nothing is fused. So each weight is known by the hash of its numbers and shape,
and of its transpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from torch import nn

from edgekd.errors import GateError
from edgekd.export.protocol import Facts

# Of a part's elements in few bits, how many may be missing among the constants. A runtime with
# fixed shapes computes small weights away (the rows of a position table, say); they stay floats.
MISSING_SHARE = 0.01
LINEAR = "linear symmetric weights, one scale per output channel, bits per tensor"


class ContentMap:
    """Number of bits for constants of a converted model.

    Args:
        model: the diffusers model before the conversion, weights in float32.
        bits: torch tensor name -> bits. Weights with the same numbers may be one constant of the
            converted model: all get the most bits that any of them is given; a float is the most.
    """

    def __init__(self, model: nn.Module, bits: Mapping[str, int]) -> None:
        self._bits: dict[str, int | None] = {}
        self._names: dict[str, set[str]] = {}
        self._elements: dict[str, int] = {}
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                continue
            values = parameter.detach().cpu().numpy()
            if name in bits:
                self._elements[name] = values.size
            for digest in _digests(values):
                if name in bits:
                    self._names.setdefault(digest, set()).add(name)
                known = self._bits.get(digest, 0)
                alone = bits.get(name)
                self._bits[digest] = None if alone is None or known is None else max(alone, known)

    def find(self, constant: npt.NDArray[np.float32]) -> int | None:
        """Bits of a constant; None: it stays a float."""
        return self._bits.get(_digest(constant))

    def names(self, constant: npt.NDArray[np.float32]) -> set[str]:
        """The weights that a constant holds."""
        return self._names.get(_digest(constant), set())

    def missing(self, constants: Iterable[npt.NDArray[np.float32]], where: str) -> list[str]:
        """Weights that no constant holds.

        Raises:
            GateError: more than `MISSING_SHARE` of the elements: the converter has fused weights.
        """
        found: set[str] = set()
        for constant in constants:
            found |= self.names(constant)
        absent = sorted(set(self._elements) - found)
        elements = sum(self._elements[name] for name in absent)
        if elements > MISSING_SHARE * sum(self._elements.values()):
            raise GateError(
                f"the converted {where} must hold the weights that the recipe names, but for "
                f"{MISSING_SHARE:.0%} of their elements",
                f"{len(absent)} missing: {', '.join(absent[:3])}",
            )
        return absent


def _digests(weight: npt.NDArray[np.float32]) -> list[str]:
    """Of a weight, and of its transpose if it is a matrix."""
    return [_digest(weight), _digest(weight.T)] if weight.ndim == 2 else [_digest(weight)]


def _digest(array: npt.NDArray[np.float32]) -> str:
    values = np.ascontiguousarray(array, dtype=np.float32)
    content = hashlib.sha256(repr(values.shape).encode())
    content.update(values.data)
    return content.hexdigest()


def stored_facts(
    by_tensor: Mapping[str, int], quantized: int, total: int, absent: list[str]
) -> Facts:
    """For the manifest: the bits of each tensor, and how many of all elements these are."""
    return {
        "tensors": len(by_tensor),
        "elements": quantized,
        "share": round(quantized / total, 4) if total else 0.0,
        "bits_by_tensor": dict(sorted(by_tensor.items())),
        "not_stored": absent,
    }
