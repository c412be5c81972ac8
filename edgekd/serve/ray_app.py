"""The server on more than one machine: Ray Serve keeps its workers, wherever there is room.

    serve run edgekd.serve.ray_app:app models=student=/shared/exported/int8 replicas=4

One deployment, `front`, is the same application as that of `edgekd serve`: it has the queue and
runs no model. Each replica of the other, `drawer`, has one worker process. A replica that is lost
costs the picture that it was drawing; Ray Serve starts another.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from edgekd.errors import InputError
from edgekd.serve.catalog import Catalog
from edgekd.serve.dispatcher import Dispatcher
from edgekd.serve.figures import Figures
from edgekd.serve.guard import Access, Guard
from edgekd.serve.limits import TOKEN_VARIABLE, Limits
from edgekd.serve.logs import event, set_up
from edgekd.serve.messages import Order, Reply, Setup
from edgekd.serve.process import WorkerLostError, WorkerProcess
from edgekd.serve.run import worker_setup
from edgekd.serve.settings import Privacy, ServeSettings, parse_bytes, parse_models, token_from

_DRAWER = "drawer"
_STOP_S = 60.0  # for a step to end; a worker that takes longer is killed
_AT_ONCE = 2_000  # requests; the queue bounds what is accepted


class Arguments(BaseModel):
    """What `serve run … NAME=VALUE` and the `args` of a Serve config file take."""

    model_config = ConfigDict(extra="forbid")

    models: str = Field(description="folders that all machines see: NAME=FOLDER,NAME=FOLDER")
    replicas: int = Field(2, ge=1, description="workers, one picture at a time each")
    threads: int = Field(1, ge=1, description="CPU threads of a worker")
    queue: int = Field(Limits.queue, description="pictures that may wait")
    timeout: float = Field(Limits.timeout_s, description="seconds of a request")
    grace: float = Field(Limits.grace_s, description="seconds for running pictures at the end")
    memory_limit: str | None = Field(None, description="of a worker, such as 2G")
    max_pixels: int = Field(Limits.pixels, description="of a picture")
    embed_prompt: bool = Field(False, description="write prompts into PNG files")
    log_prompts: bool = Field(False, description="write prompts into the log")

    def settings(self) -> ServeSettings:
        """As a server has them.

        Raises:
            InputError: a value that cannot be, or no token: nobody here knows who can reach Ray's
                proxy.
        """
        token = token_from(None)
        if token is None:
            raise InputError(
                "a server on Ray must have a token",
                "none",
                f"Set the variable {TOKEN_VARIABLE} where the application is built.",
            )
        memory = None if self.memory_limit is None else parse_bytes(self.memory_limit)
        return ServeSettings(
            models=parse_models(self.models.split(",")),
            token=token,
            workers=self.replicas,
            threads=self.threads,
            limits=Limits(self.queue, self.timeout, self.grace, memory, self.max_pixels),
            privacy=Privacy(self.embed_prompt, self.log_prompts),
        )


def app(arguments: Arguments) -> Any:
    """The application, for `serve run` and Serve config files.

    Raises:
        InputError: as `Arguments.settings`; also a folder that is no export.
    """
    settings = arguments.settings()
    Catalog(settings)  # what is wrong with a model is said before anything starts

    def build() -> ASGIApp:
        return Front(settings)

    drawer = serve.deployment(
        DrawingReplica,
        name=_DRAWER,
        num_replicas=settings.workers,
        max_ongoing_requests=1,
        ray_actor_options={"num_cpus": settings.threads},
        health_check_period_s=2.0,
    )
    front = serve.deployment(
        serve.ingress(build)(),
        name="front",
        max_ongoing_requests=_AT_ONCE,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=settings.limits.grace_s,
    )
    return front.bind(drawer.bind(worker_setup(settings).text()))


class Front:
    """ASGI application: the API, with replicas for workers."""

    def __init__(self, settings: ServeSettings) -> None:
        set_up(settings.privacy.log_prompts)
        figures, limits = Figures(), settings.limits
        self._grace_s = limits.grace_s
        self._dispatcher = Dispatcher(
            self._start, settings.workers, limits.queue, figures, stuck_s=limits.timeout_s
        )
        figures.watch_memory(lambda: {"server": os.getpid()})
        from edgekd.serve.app import Service, create_app, expected_body

        service = Service(settings, Catalog(settings), self._dispatcher, figures)
        access = Access(settings.token, any_host=True)
        self._guard = Guard(create_app(service), access, figures, expected_body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._guard(scope, receive, send)
            return
        await receive()  # lifespan.startup
        await self._dispatcher.open()
        event("ready")
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self._dispatcher.drain(self._grace_s)
        await self._dispatcher.close()
        await send({"type": "lifespan.shutdown.complete"})

    @staticmethod
    async def _start() -> ReplicaWorker:
        handle = serve.get_deployment_handle(_DRAWER)
        try:
            await handle.ready.remote()
        except Exception as error:  # whatever Ray has for the end of an actor
            event("replica lost", error=type(error).__name__)
            raise WorkerLostError from error
        return ReplicaWorker(handle.options(stream=True))


class ReplicaWorker:
    """A worker to the dispatcher: whichever replica is free."""

    # Which replica holds which models, Ray Serve does not say.
    loaded: tuple[str, ...] = ()

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._replies: Any = None
        self._stopped = False

    @property
    def pid(self) -> int:
        return 0  # of another machine

    async def draw(self, order: Order, on_preview: Callable[[Reply], None]) -> Reply:
        """The last reply to an order.

        Raises:
            WorkerLostError: the replica, or its worker, has ended.
        """
        self._stopped = False
        self._replies = self._handle.draw.remote(order)
        try:
            async for reply in self._replies:
                if reply.kind != "preview":
                    last: Reply = reply
                    return last
                on_preview(reply)
        except asyncio.CancelledError:
            if not self._stopped:
                raise
        except Exception as error:  # whatever Ray has for the end of an actor
            if not self._stopped:
                event("replica lost", error=type(error).__name__)
                raise WorkerLostError from error
        if self._stopped:
            return Reply("stopped", order.number)
        raise WorkerLostError

    def stop(self, number: int) -> None:
        del number  # there is one
        self._stopped = True
        self._replies.cancel()

    def kill(self) -> None:
        """The replica ends a worker that does not stop."""

    async def ended(self) -> None:
        """Ray Serve itself starts a lost replica anew: to the dispatcher none ever ends."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Ray Serve ends its replicas."""


class DrawingReplica:
    """A replica: it keeps one worker process, which ends with it."""

    def __init__(self, setup: str) -> None:
        self._setup = Setup.of(setup)
        self._worker: WorkerProcess | None = None
        self._numbers = itertools.count()
        self._one_at_a_time = asyncio.Lock()
        set_up(self._setup.log_prompts)

    async def ready(self) -> None:
        """Wait until the default model is loaded.

        Raises:
            UnableError: it cannot be.
            WorkerLostError: the worker's process ended.
        """
        async with self._one_at_a_time:
            await self._live_worker()

    async def draw(self, order: Order) -> AsyncIterator[Reply]:
        """Replies to an order, as a worker gives them; whoever goes before the last has the picture
        stopped after its step.

        Raises:
            WorkerLostError: the worker's process ended; the next order has a new one.
        """
        # Fronts may come and go, and number from 0 each.
        order = replace(order, number=next(self._numbers))
        async with self._one_at_a_time:
            worker = await self._live_worker()
            replies: asyncio.Queue[Reply | None] = asyncio.Queue()
            drawing = asyncio.ensure_future(worker.draw(order, replies.put_nowait))
            drawing.add_done_callback(lambda _: replies.put_nowait(None))
            try:
                while (reply := await replies.get()) is not None:
                    yield reply
                yield drawing.result()
            finally:
                if not drawing.done():
                    worker.stop(order.number)
                    await asyncio.wait((drawing,), timeout=_STOP_S)
                if not drawing.done() or drawing.exception() is not None:
                    await worker.close()
                    self._worker = None

    async def _live_worker(self) -> WorkerProcess:
        if self._worker is None:
            self._worker = await WorkerProcess.start(self._setup)
        return self._worker
