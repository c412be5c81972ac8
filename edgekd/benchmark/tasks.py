"""What a worker process of a benchmark does: draw batches, time rows."""

from __future__ import annotations

from typing import Any

from edgekd.benchmark.cache import write_tensors
from edgekd.benchmark.draw import Batch, Drawer, open_drawer
from edgekd.benchmark.orders import DrawOrder, SpeedOrder
from edgekd.benchmark.speed import measure_speed


class Worker:
    """Answers requests; the last case stays loaded, so that requests sorted by case load each
    once."""

    def __init__(self) -> None:
        self._loaded: tuple[object, ...] | None = None
        self._drawer: Drawer | None = None

    def draw(self, request: dict[str, Any]) -> dict[str, Any]:
        """Draw the batch of a `DrawOrder`."""
        order = DrawOrder.model_validate(request)
        assert order.out is not None
        images = self._open(order).draw(Batch.of(order))
        write_tensors(order.out, {"images": images})
        return {}

    def speed(self, request: dict[str, Any]) -> dict[str, Any]:
        """The `SpeedResult` of a `SpeedOrder`."""
        self._loaded, self._drawer = None, None
        return measure_speed(SpeedOrder.model_validate(request)).model_dump()

    def _open(self, order: DrawOrder) -> Drawer:
        wanted = (order.case.path, order.case.generation, order.threads)
        if self._drawer is None or self._loaded != wanted:
            self._loaded, self._drawer = None, None  # free the old one before loading
            self._drawer = open_drawer(order.case, order.threads)
            self._loaded = wanted
        return self._drawer
