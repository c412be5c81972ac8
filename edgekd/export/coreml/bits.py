"""Weights of a Core ML package in bits of their own: one table of 2^bits values per weight.

iOS 17 has tables of 8, 6, 4, 2 and 1 bits; 2 and 1 leave no picture.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.export.bits.mapping import ContentMap
from edgekd.export.bits.storage import Array
from edgekd.export.bits.weights import captured_model
from edgekd.export.capture import Capture
from edgekd.export.coreml.compress import CompressionRules, Storage, compress, palette
from edgekd.export.protocol import Facts


@dataclass(frozen=True)
class PaletteStorage:
    """A table of 2^bits float16 values for each weight, found by k-means; see `palette`.

    Attributes:
        min_elements: smaller tensors stay float16: a table would be as large as they are.
    """

    float_bits: int = 16
    min_elements: int = 2048
    method: str = "palette"

    def choices(self, kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        del kind  # tables serve all
        return (8, 6, 4) if math.prod(shape) >= self.min_elements else ()

    def rounded(self, weight: Array, bits: int) -> Array:
        table, indices = palette(weight.astype(np.float16), bits)
        return table[indices].reshape(weight.shape).astype(np.float32)

    def stored_bytes(self, shape: tuple[int, ...], bits: int | None) -> int:
        elements = math.prod(shape)
        return elements * 2 if bits is None else math.ceil(elements * bits / 8) + 2 * 2**bits


COREML_STORAGE = PaletteStorage()


def compress_bits(model: Any, capture: Capture, bits: Mapping[str, int]) -> tuple[Any, Facts]:
    """Store weights of a converted part in few bits; arguments as of `StoresBits.convert_bits`.

    Weights with the same numbers may be one constant of the package: all get the most bits that
    any of them is given.
    """
    content = ContentMap(captured_model(capture), bits)
    parameters = dict(captured_model(capture).named_parameters())
    rules: list[tuple[str, Storage | None]] = []
    for name in bits:
        count = content.find(parameters[name].detach().cpu().numpy())
        if count is not None:
            rules.append((glob.escape(name), Storage("palette", count)))
    recipe = CompressionRules((*rules, ("*", None)), min_elements=1)
    return compress(model, capture.module, recipe)
