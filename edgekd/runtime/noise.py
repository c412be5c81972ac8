"""The noise of `torch.randn` on a CPU, without torch: the same seed starts the same picture.

torch fills a float32 tensor of 16 values or more in blocks of 16: uniforms of 24 bits from a
Mersenne Twister, the first eight of a block paired with the last eight by the transform of Box and
Muller (1958, "A Note on the Generation of Random Normal Deviates"). A tensor whose size is no
multiple of 16 has its last 16 values drawn anew. Smaller tensors take the same transform in double
precision, two values for each pair of uniforms, one of them kept for the next call.

The uniforms are the same bit for bit. The logarithm, sine and cosine are not: torch's vectorised
kernel (AVX2 and wider) approximates them in float32, which leaves 5e-7 between its values and
these; its scalar kernel also rounds the angle elsewhere, which leaves 2.1e-6 (tests/unit/runtime).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError

F32Array = npt.NDArray[np.float32]

_BLOCK = 16
_TWO_PI = np.float32(2 * math.pi)
_SEEDS = 2**64


class TorchGenerator:
    """What `torch.Generator().manual_seed(seed)` is to torch's CPU kernels.

    Args:
        seed: 0 to 2**64 - 1; as in torch, its low 32 bits decide.

    Raises:
        InputError: the seed is out of range.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < _SEEDS:
            raise InputError("`0 <= seed < 2**64` must hold", f"seed={seed}")
        # RandomState, not Generator: its seeding is the reference one, and frozen for good.
        self._engine = np.random.RandomState(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def randn(self, shape: Sequence[int]) -> F32Array:
        """Standard normal values, as `torch.randn(shape, generator=…)` draws them."""
        size = math.prod(shape)
        values = self._blocks(size) if size >= _BLOCK else self._few(size)
        return values.reshape(shape)

    def _blocks(self, size: int) -> F32Array:
        whole = size - size % _BLOCK
        uniforms = self._uniforms(size)
        values = np.empty(size, np.float32)
        values[:whole] = _box_muller(uniforms[:whole])
        if whole < size:
            values[-_BLOCK:] = _box_muller(self._uniforms(_BLOCK))
        return values

    def _few(self, size: int) -> F32Array:
        return np.array([self._one() for _ in range(size)], np.float32)

    def _one(self) -> float:
        if self._spare is not None:
            value, self._spare = self._spare, None
            return value
        angle = 2 * math.pi * self._double()
        radius = math.sqrt(-2 * math.log1p(-self._double()))
        self._spare = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _words(self, count: int) -> npt.NDArray[np.uint32]:
        return self._engine.randint(0, 2**32, size=count, dtype=np.uint32)

    def _uniforms(self, count: int) -> F32Array:
        """24 bits of each word, in [0, 1)."""
        low = self._words(count) & np.uint32(2**24 - 1)
        return np.asarray(low * np.float32(2**-24), np.float32)

    def _double(self) -> float:
        """53 bits of two words, in [0, 1)."""
        high, low = (int(word) for word in self._words(2))
        return float(((high << 32 | low) & (2**53 - 1)) * 2.0**-53)


def _box_muller(uniforms: F32Array) -> F32Array:
    """Blocks of 16 uniforms -> blocks of 16 normals: eight cosines, then their eight sines."""
    blocks = uniforms.reshape(-1, 2, _BLOCK // 2)
    # Rounded to float32 where torch rounds; in between, double is as exact as can be.
    angle = (_TWO_PI * blocks[:, 1]).astype(np.float64)
    logarithm = np.log((np.float32(1) - blocks[:, 0]).astype(np.float64)).astype(np.float32)
    radius = np.sqrt(np.float32(-2) * logarithm)
    pairs = [radius * wave(angle).astype(np.float32) for wave in (np.cos, np.sin)]
    return np.stack(pairs, axis=1).reshape(-1)
