"""Opening the model and drawing, away from the window's thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QObject, Signal, Slot

from desktop.model import Model, open_model
from edgekd.errors import EdgekdError


@dataclass(frozen=True)
class Request:
    """What the user asks for."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Drawn:
    """A picture, uint8 [H,W,3], with what it was drawn from, and in how many seconds."""

    request: Request
    picture: npt.NDArray[np.uint8]
    seconds: float


class _CancelledError(Exception):
    """The user stopped a drawing."""


class Drawer(QObject):
    """Lives in a thread of its own; the window talks to it by signals, but for `cancel`."""

    opened = Signal(object)  # Model
    stepped = Signal(int, int)  # calls of the U-Net that are done, and all
    drawn = Signal(object)  # Drawn
    cancelled = Signal()
    failed = Signal(str)  # one line for the user

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._model: Model | None = None
        self._stop = threading.Event()

    @Slot()
    def open(self) -> None:
        try:
            self._model = open_model(self._folder)
        except (EdgekdError, OSError) as error:
            self.failed.emit(str(error))
        else:
            self.opened.emit(self._model)

    @Slot(object)
    def draw(self, request: Request) -> None:
        if self._model is None:
            return
        self._stop.clear()
        begun = time.perf_counter()
        try:
            pictures = self._model.pipeline.generate(
                [request.prompt], seed=request.seed, on_step=self._on_step
            )
        except _CancelledError:
            self.cancelled.emit()
        except (EdgekdError, OSError, MemoryError) as error:
            self.failed.emit(str(error) or "there is not enough memory for this picture")
        else:
            self.drawn.emit(Drawn(request, pictures[0], time.perf_counter() - begun))

    def cancel(self) -> None:
        """Stop after the step that is running; called from the window's thread."""
        self._stop.set()

    def _on_step(self, done: int, calls: int, latents: npt.NDArray[np.float32]) -> None:
        del latents
        if self._stop.is_set():
            raise _CancelledError
        self.stepped.emit(done, calls)
