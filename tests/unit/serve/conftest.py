"""The API in this process, with workers that its tests make."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.exported import describe
from fixtures.workers import FakeWorker

from edgekd.serve.app import Service, create_app, expected_body
from edgekd.serve.catalog import Catalog
from edgekd.serve.dispatcher import Dispatcher
from edgekd.serve.figures import Figures
from edgekd.serve.guard import Access, Guard
from edgekd.serve.limits import Limits
from edgekd.serve.settings import Privacy, ServeSettings


@pytest.fixture(scope="session")
def described(tmp_path_factory) -> Path:
    return describe(tmp_path_factory.mktemp("described") / "starter")


@pytest.fixture
def start(described) -> Callable[..., Any]:
    """`start(workers, token, queue)`: a guarded API and its dispatcher, in a running loop."""

    async def made(
        workers: list[FakeWorker], token: str | None = None, queue: int = 8, timeout_s: float = 5.0
    ) -> tuple[Guard, Dispatcher]:
        limits = Limits(queue=queue, timeout_s=timeout_s, pixels=256 * 256)
        settings = ServeSettings(
            {"starter": described}, token=token, limits=limits, privacy=Privacy()
        )
        figures, waiting = Figures(), list(workers)

        async def start_worker() -> FakeWorker:
            if not waiting:
                await asyncio.sleep(3600)
            return waiting.pop(0)

        dispatcher = Dispatcher(start_worker, len(workers), queue, figures, stuck_s=0.01)
        await dispatcher.open()
        await asyncio.sleep(0)
        app = create_app(Service(settings, Catalog(settings), dispatcher, figures))
        access = Access(token, any_host=token is not None)
        return Guard(app, access, figures, expected_body), dispatcher

    return made
