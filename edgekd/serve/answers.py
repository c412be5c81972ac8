"""Waiting for pictures, and what their requests are answered with."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus, SendTimeoutError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from edgekd.serve import problems
from edgekd.serve.dispatcher import Dispatcher, Job, Picture
from edgekd.serve.drawing import DrawingRequest
from edgekd.serve.logs import event
from edgekd.serve.messages import Reply
from edgekd.serve.problems import Problem
from edgekd.serve.schema import CompletedEvent, ImageItem, ImagesResponse, PartialEvent

_SLOW_CLIENT_S = 30.0


class ClientGoneError(Exception):
    """The client went before its pictures were there."""


async def collect(
    request: Request, drawing: DrawingRequest, dispatcher: Dispatcher, timeout_s: float
) -> list[Picture]:
    """All pictures of a request; whatever ends it early takes its other pictures along.

    Raises:
        Problem: one of them failed, or they were not there in time.
        ClientGoneError: nobody waits for them.
    """
    jobs = dispatcher.submit(drawing.drawings, lambda *_: None)
    pictures = asyncio.gather(*(job.done for job in jobs))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        done, _ = await asyncio.wait(
            (pictures, gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if pictures in done:
            return pictures.result()
        raise ClientGoneError if gone in done else problems.timed_out(timeout_s)
    finally:
        gone.cancel()
        for job in jobs:
            dispatcher.cancel(job)
        if not pictures.done():
            pictures.cancel()
        elif not pictures.cancelled():
            pictures.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def images_response(
    drawing: DrawingRequest, pictures: list[Picture], address: Callable[[Picture], str]
) -> ImagesResponse:
    """The answer; `address` keeps a picture and tells where."""
    items = [
        ImageItem(
            b64_json=None if drawing.as_url else _base64(picture.content),
            url=address(picture) if drawing.as_url else None,
            seed=asked.seed,
            waited_s=round(picture.waited_s, 4),
            drawn_s=round(picture.drawn_s, 4),
        )
        for asked, picture in zip(drawing.drawings, pictures, strict=True)
    ]
    return ImagesResponse(
        created=int(time.time()),
        model=drawing.model.name,
        data=items,
        output_format=drawing.file_format,
        size=drawing.size,
        quality=drawing.quality,
    )


class _Events(EventSourceResponse):
    """Events, then, whatever ended them, even before the first one, a last call."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], finish: Callable[[], None]) -> None:
        # Comments in between keep proxies from closing a stream that waits.
        super().__init__(events, ping=15, send_timeout=_SLOW_CLIENT_S)
        self._finish = finish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:  # a client that does not read; its connection is closed
            event("slow client", seconds=_SLOW_CLIENT_S)
        finally:
            self._finish()


@dataclass(frozen=True)
class _Preview:
    index: int
    reply: Reply


class EventStream:
    """The pictures of a request as server-sent events, previews before each."""

    def __init__(self, drawing: DrawingRequest, dispatcher: Dispatcher, timeout_s: float) -> None:
        """Submit them.

        Raises:
            Problem: they do not fit into the queue.
        """
        self._plan = drawing
        self._dispatcher = dispatcher
        self._until = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._news: asyncio.Queue[_Preview | int] = asyncio.Queue()
        self._jobs = dispatcher.submit(drawing.drawings, self._preview)
        for index, job in enumerate(self._jobs):
            job.done.add_done_callback(self._finished(index))

    def response(self) -> EventSourceResponse:
        # Streams end with their pictures, which a server that stops finishes or gives up: the last
        # event is not to be cut off where its client reads slowly.
        AppStatus.enable_automatic_graceful_drain = False
        return _Events(self._events(), self._cancel)

    def _cancel(self) -> None:
        for job in self._jobs:
            self._dispatcher.cancel(job)

    def _finished(self, index: int) -> Callable[[asyncio.Future[Picture]], None]:
        return lambda _: self._news.put_nowait(index)

    def _preview(self, index: int, reply: Reply) -> None:
        self._news.put_nowait(_Preview(index, reply))

    async def _events(self) -> AsyncIterator[ServerSentEvent]:
        try:
            async for text in self._texts():
                yield text
        except Problem as problem:
            yield ServerSentEvent(json.dumps(problem.body()), event="error")

    async def _texts(self) -> AsyncIterator[ServerSentEvent]:
        left = len(self._jobs)
        shown = [0] * left
        while left:
            news = await self._next()
            if isinstance(news, _Preview):
                told: PartialEvent | CompletedEvent = self._partial(news, shown[news.index])
                shown[news.index] += 1
            else:
                told = self._completed(news, self._jobs[news])
                left -= 1
            yield ServerSentEvent(told.model_dump_json(), event=told.type)

    async def _next(self) -> _Preview | int:
        try:
            return await asyncio.wait_for(
                self._news.get(), max(0.0, self._until - time.monotonic())
            )
        except asyncio.TimeoutError:
            raise problems.timed_out(self._timeout_s) from None

    def _partial(self, preview: _Preview, number: int) -> PartialEvent:
        reply = preview.reply
        return PartialEvent(
            b64_json=_base64(reply.picture),
            partial_image_index=number,
            index=preview.index,
            step=reply.step,
            steps=reply.steps,
            created_at=int(time.time()),
            output_format=self._plan.file_format,
            size=self._plan.size,
            quality=self._plan.quality,
        )

    def _completed(self, index: int, job: Job) -> CompletedEvent:
        picture = job.done.result()
        return CompletedEvent(
            b64_json=_base64(picture.content),
            index=index,
            model=self._plan.model.name,
            seed=job.drawing.seed,
            waited_s=round(picture.waited_s, 4),
            drawn_s=round(picture.drawn_s, 4),
            created_at=int(time.time()),
            output_format=self._plan.file_format,
            size=self._plan.size,
            quality=self._plan.quality,
        )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
