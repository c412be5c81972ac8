"""What went wrong with single rows of a benchmark: it is shown there, and stops no other row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from edgekd.errors import EdgekdError, LostError
from edgekd.progress import Progress


@dataclass
class Failures:
    """Why rows failed, by name; the first reason of each is kept.

    Attributes:
        progress: told of each.
    """

    progress: Progress
    reasons: dict[str, str] = field(default_factory=dict)

    def record(self, row: str, reason: str) -> None:
        if row not in self.reasons:
            self.reasons[row] = reason
            self.progress.info(f"{row} failed: {reason}")

    @contextlib.contextmanager
    def caught(self, row: str) -> Iterator[None]:
        """Whatever a row's own work raises as edgekd's error is its failure, and ends here."""
        try:
            yield
        except LostError:  # no row's own
            raise
        except EdgekdError as error:
            self.record(row, str(error))
