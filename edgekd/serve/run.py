"""A server from its start to its end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING

from edgekd.errors import EdgekdError, InputError
from edgekd.serve.logs import event, set_up
from edgekd.serve.messages import Setup
from edgekd.serve.settings import ServeSettings

if TYPE_CHECKING:
    from edgekd.serve.dispatcher import Dispatcher

# Above what clients and proxies keep: whoever closes first never sends into a closed connection.
_KEEP_ALIVE_S = 75
_LAST_ANSWERS_S = 5  # for what is still to be sent when all pictures are drawn


def run(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InputError: a model cannot be opened, the address is taken, or a package is missing.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import psutil  # noqa: F401
        import sse_starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the packages of a server must be installed",
            f"no {error.name}",
            "Run `pip install 'edgekd[serve]'`, or `'edgekd-runtime[serve,onnx]'` on a device.",
        ) from None
    set_up(settings.privacy.log_prompts)
    asyncio.run(_run(settings))


async def _run(settings: ServeSettings) -> None:
    import uvicorn

    from edgekd.serve.app import Service, create_app, expected_body
    from edgekd.serve.catalog import Catalog
    from edgekd.serve.dispatcher import Dispatcher
    from edgekd.serve.figures import Figures
    from edgekd.serve.guard import Access, Guard
    from edgekd.serve.process import WorkerProcess
    from edgekd.serve.protocol import Protocol

    catalog, figures = Catalog(settings), Figures()
    limits, setup = settings.limits, worker_setup(settings)
    listener = bind(settings.host, settings.port)
    dispatcher = Dispatcher(
        lambda: WorkerProcess.start(setup),
        settings.workers,
        limits.queue,
        figures,
        stuck_s=limits.timeout_s,
    )
    figures.watch_memory(lambda: {"server": os.getpid(), **dispatcher.pids()})

    class Server(uvicorn.Server):
        """Finishes its pictures before it ends."""

        ending: asyncio.Task[None] | None = None

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit:  # a third signal: whatever is still to be sent
                super().handle_exit(sig, frame)
            else:
                loop.call_soon_threadsafe(self._begin_to_end)

        def _begin_to_end(self) -> None:
            if self.ending is None:
                self.ending = loop.create_task(self._end())
            else:  # a second signal: at once, but with an answer
                dispatcher.give_up()

        async def _end(self) -> None:
            event("shutting down")
            await dispatcher.drain(limits.grace_s)
            self.should_exit = True

    loop = asyncio.get_running_loop()
    service = Service(settings, catalog, dispatcher, figures)
    access = Access(settings.token, any_host=settings.token is not None)
    config = uvicorn.Config(
        Guard(create_app(service), access, figures, expected_body),
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )
    try:
        await _open(dispatcher)
        listener.listen()  # whoever reads the line below is not refused
        start_s = _seconds_of_this_process()
        figures.listening(start_s)
        host, port = listener.getsockname()[:2]
        event(
            "listening",
            url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
            models=list(catalog.models),
            workers=settings.workers,
            seconds=round(start_s, 3),
        )
        await Server(config).serve(sockets=[listener])
    finally:
        listener.close()
        await dispatcher.close()
    event("ended")


def _seconds_of_this_process() -> float:
    """Since the system made it: imports are part of a start."""
    import psutil

    return max(0.0, time.time() - float(psutil.Process().create_time()))


async def _open(dispatcher: Dispatcher) -> None:
    from edgekd.serve.process import WorkerLostError

    try:
        await dispatcher.open()
    except WorkerLostError:
        raise EdgekdError(
            "a worker must live until its model is loaded",
            "the end of its process",
            "Its last words are above; without any, the system may have ended it for its memory.",
        ) from None


def worker_setup(settings: ServeSettings) -> Setup:
    """What each worker is started with."""
    return Setup(
        models={name: str(path) for name, path in settings.models.items()},
        threads=settings.worker_threads,
        memory_bytes=settings.limits.memory_bytes,
        embed_prompt=settings.privacy.embed_prompt,
        log_prompts=settings.privacy.log_prompts,
    )


def bind(host: str, port: int) -> socket.socket:
    """An address, taken but not yet open: clients are refused until the server is ready.

    Raises:
        InputError: it is another's, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        found = f"{host}:{port} ({reason})"
        raise InputError("the address must be free to listen on", found) from None
    return listener
