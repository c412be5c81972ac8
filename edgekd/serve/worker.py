"""A worker: a process that draws one picture at a time with the models that it holds.

Orders come through stdin and replies go through stdout (`edgekd.serve.messages`). It ends when the
server does, which closes the pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from queue import SimpleQueue
from typing import BinaryIO

from edgekd.errors import EdgekdError, GateError
from edgekd.runtime.pipeline import F32Array, Pipeline
from edgekd.serve.encode import encode, parameters
from edgekd.serve.loaded import LoadedModels
from edgekd.serve.logs import event, log, set_up
from edgekd.serve.messages import Drawing, Order, Reply, Setup, pack_reply, read_order

_BROKEN = "the model could not draw this picture; the server's log says why"


class _Stopped(Exception):  # noqa: N818
    """The server wants this picture no more."""


def main(setup_text: str) -> None:
    """Serve the parent process; never returns."""
    # The server ends its workers itself: terminals and service managers signal all processes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    orders, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between the replies.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    Worker(Setup.of(setup_text), orders, replies).run()


class Worker:
    """Draws what it is ordered, in order; orders to stop are heard in between steps."""

    def __init__(self, setup: Setup, orders: BinaryIO, replies: BinaryIO) -> None:
        set_up(setup.log_prompts)
        self._setup = setup
        self._orders = orders
        self._replies = replies
        self._models = LoadedModels(setup.paths(), setup.threads, setup.memory_bytes)
        self._waiting: SimpleQueue[Order] = SimpleQueue()
        self._stopped = -1  # number of the last order to stop

    def run(self) -> None:
        default = next(iter(self._setup.models))
        started = time.perf_counter()
        try:
            with self._models.using(default) as pipeline:
                _warm(pipeline)
        except EdgekdError as error:
            self._reply(Reply("unable", message=str(error)))
            sys.exit(1)
        event("worker ready", pid=os.getpid(), seconds=round(time.perf_counter() - started, 3))
        self._reply(Reply("ready", loaded=self._models.names))
        threading.Thread(target=self._receive, daemon=True).start()
        while True:
            order = self._waiting.get()
            if order.drawing is not None:
                self._reply(self._answer(order.number, order.drawing))

    def _receive(self) -> None:
        while (order := read_order(self._orders)) is not None:
            if order.drawing is None:
                self._stopped = order.number
            else:
                self._waiting.put(order)
        os._exit(0)  # whatever it is at

    def _answer(self, number: int, drawing: Drawing) -> Reply:
        kind, message, picture, seconds = "picture", "", b"", 0.0
        is_new = drawing.model not in self._models.names
        try:
            with self._models.using(drawing.model, drawing.sampler) as pipeline:
                if is_new:  # or the first picture's time would tell of files
                    _warm(pipeline)
                picture, seconds = self._draw(number, drawing, pipeline)
        except _Stopped:
            kind = "stopped"
        except GateError as error:  # about the picture alone: it names no path
            kind, message = "failed", str(error)
        except Exception as error:
            kind, message = "failed", _BROKEN
            text = str(error) if isinstance(error, EdgekdError) else ""
            log.exception("drawing failed", extra={"fields": {"model": drawing.model, "why": text}})
        return Reply(
            kind, number, message, loaded=self._models.names, seconds=seconds, picture=picture
        )

    def _draw(self, number: int, drawing: Drawing, pipeline: Pipeline) -> tuple[bytes, float]:
        """The picture's file, and the seconds that it took without its previews."""
        started, previews_s = time.perf_counter(), 0.0

        def on_step(done: int, calls: int, latents: F32Array) -> None:
            nonlocal previews_s
            if self._stopped == number:
                raise _Stopped
            if done in preview_calls(calls, drawing.previews):
                before = time.perf_counter()
                preview = encode(pipeline.decode(latents[0]), drawing)
                reply = Reply("preview", number, step=done, steps=calls, picture=preview)
                self._reply(reply)
                previews_s += time.perf_counter() - before

        picture = pipeline.generate(
            [drawing.prompt],
            drawing.negative_prompt,
            steps=drawing.steps,
            guidance_scale=drawing.guidance_scale,
            seed=drawing.seed,
            height=drawing.height,
            width=drawing.width,
            on_step=on_step,
        )[0]
        texts = parameters(drawing, pipeline.folder.scheduler.name, self._setup.embed_prompt)
        content = encode(picture, drawing, texts)
        return content, time.perf_counter() - started - previews_s

    def _reply(self, reply: Reply) -> None:
        self._replies.write(pack_reply(reply))
        self._replies.flush()


def preview_calls(calls: int, count: int) -> set[int]:
    """After which calls of the U-Net previews come: evenly spaced, none after the last."""
    places = {round(calls * (index + 1) / (count + 1)) for index in range(count)}
    return places - {0, calls}


def _warm(pipeline: Pipeline) -> None:
    """The runtime opens models when they are first used: use each once."""

    def on_step(done: int, calls: int, latents: F32Array) -> None:
        pipeline.decode(latents[0])
        raise _Stopped

    with contextlib.suppress(_Stopped):
        pipeline.generate(["a"], on_step=on_step)
