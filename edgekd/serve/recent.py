"""What pictures took lately: a model's own time, as the server measured it."""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque

from edgekd.serve.messages import Drawing

_Kind = tuple[str, int, float, str | None, int, int]


class RecentTimes:
    """Seconds of the last pictures of each kind; the kinds that came up longest ago leave."""

    def __init__(self, pictures: int = 32, kinds: int = 256) -> None:
        self._pictures, self._kinds = pictures, kinds
        self._seconds: OrderedDict[_Kind, deque[float]] = OrderedDict()

    def note(self, drawing: Drawing, seconds: float) -> None:
        kind = _kind(drawing)
        self._seconds.setdefault(kind, deque(maxlen=self._pictures)).append(seconds)
        self._seconds.move_to_end(kind)
        if len(self._seconds) > self._kinds:
            self._seconds.popitem(last=False)

    def median(self, drawing: Drawing) -> float | None:
        """Of pictures like this one; None: there were none."""
        found = self._seconds.get(_kind(drawing))
        return statistics.median(found) if found else None


def _kind(drawing: Drawing) -> _Kind:
    """All that a picture's time depends on."""
    return (
        drawing.model,
        drawing.steps,
        drawing.guidance_scale,
        drawing.sampler,
        drawing.height,
        drawing.width,
    )
