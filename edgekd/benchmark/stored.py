"""A row's pictures on disk, read one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from edgekd.benchmark.workers import read_images
from edgekd.errors import InputError
from edgekd.metrics.metric import Images, Pixels


@dataclass(eq=False)
class StoredPictures(Sequence[Pixels]):
    """`total` pictures [H,W,3] in files of `size` each; the last file read stays in memory.

    Raises:
        InputError: when read: a file is not what it was when it was written.
    """

    paths: Sequence[Path]
    size: int
    total: int
    _last: tuple[int, Images] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self.total))]
        if not -self.total <= index < self.total:
            raise IndexError(index)
        number, place = divmod(index % self.total, self.size)
        picture: Pixels = self._read(number)[place]
        return picture

    def batches(self) -> Iterator[Images]:
        """All pictures in order, [B,H,W,3] of each file."""
        return map(self._read, range(len(self.paths)))

    def _read(self, number: int) -> Images:
        if self._last is None or self._last[0] != number:
            images = read_images(self.paths[number])
            if images is None:
                raise InputError(
                    "pictures must stay as they were drawn", str(self.paths[number]), "Run again."
                )
            self._last = number, images
        return self._last[1]
