"""The same API on Ray Serve with two replicas, asked by OpenAI's own client."""

import asyncio
import base64
import io
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil
import pytest
from fixtures.clusters import ray_processes
from fixtures.exported import write_export
from fixtures.servers import paused
from PIL import Image
from ray import serve
from ray.exceptions import RayActorError

from edgekd.errors import InputError
from edgekd.runtime import Pipeline
from edgekd.serve import ray_app
from edgekd.serve.process import WorkerLostError
from edgekd.serve.ray_app import Arguments, app

pytestmark = pytest.mark.xdist_group("ray")

TOKEN = "a-token-of-a-test"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    write_export(folder / "fast")
    write_export(folder / "slow", slow=2)
    return folder


@pytest.fixture(scope="module")
def address(cluster, exports) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = Arguments(
        models=f"{exports / 'fast'},{exports / 'slow'}", replicas=2, queue=4, timeout=60
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKD_TOKEN", TOKEN)
        built = app(arguments)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(built)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture(scope="module")
def client(address) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0)


def draw(client: openai.OpenAI, seed: int, **options: object) -> bytes:
    answer = client.images.generate(prompt="red apple", extra_body={"seed": seed, **options})
    return base64.b64decode(answer.data[0].b64_json)


def figure(address: str, name: str) -> float:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    lines = httpx.get(f"{address}/metrics", headers=headers).text.splitlines()
    return next(float(x.split()[1]) for x in lines if x.startswith(f"{name} "))


def running(address: str) -> float:
    return figure(address, "edgekd_pictures_running")


def replicas() -> list[psutil.Process]:
    return ray_processes(os.getpid(), "ray::ServeReplica:default:drawer")


def workers(of: list[psutil.Process]) -> list[int]:
    return [worker.pid for one in of for worker in one.children()]


def wait_until(true) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_pictures_are_the_runtimes(client, exports):
    (expected,) = Pipeline.open(exports / "fast", threads=1).generate(["red apple"], seed=7)
    with Image.open(io.BytesIO(draw(client, 7))) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_request_without_the_token_is_refused(address):
    answer = httpx.get(f"{address}/v1/models")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_stream_has_previews(client):
    events = client.images.generate(prompt="red apple", stream=True, partial_images=2)
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]


def test_a_picture_that_nobody_waits_for_is_stopped(client, address):
    async def ask_and_go() -> None:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=TOKEN) as other:
            options = {"prompt": "red apple", "model": "slow", "extra_body": {"steps": 900}}
            asked = asyncio.create_task(other.images.generate(**options))
            await asyncio.to_thread(wait_until, lambda: running(address) == 1)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    before = figure(address, "edgekd_pictures_stopped_total")
    with paused(*workers(replicas())):
        asyncio.run(ask_and_go())
        wait_until(lambda: running(address) == 0)
    assert figure(address, "edgekd_pictures_stopped_total") == before + 1
    draw(client, 1)


def test_a_killed_replica_costs_the_picture_that_it_drew(client, address):
    """Two long pictures, one on each replica, and two short ones that wait for them."""
    found = replicas()
    assert len(found) == 2
    lost = found[0].children()
    with ThreadPoolExecutor(4) as pool:
        with paused(*workers(found)):
            long = [pool.submit(draw, client, seed, model="slow", steps=5) for seed in (1, 2)]
            wait_until(lambda: running(address) == 2)
            short = [pool.submit(draw, client, seed) for seed in (3, 4)]
            found[0].kill()
        errors = [one.exception(PATIENCE_S) for one in long]
        (error,) = [one for one in errors if one is not None]
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.code) == (503, "worker_lost")
        assert error.response.headers["retry-after"] == "1"
        assert [one.result(PATIENCE_S) for one in short] == [draw(client, 3), draw(client, 4)]
    assert psutil.wait_procs(lost, timeout=PATIENCE_S)[1] == []
    wait_until(lambda: len(replicas()) == 2)


def test_arguments_are_checked(exports, monkeypatch, tmp_path):
    monkeypatch.delenv("EDGEKD_TOKEN", raising=False)
    arguments = Arguments(models=str(exports / "fast"))
    with pytest.raises(InputError, match="a server on Ray must have a token"):
        app(arguments)
    monkeypatch.setenv("EDGEKD_TOKEN", TOKEN)
    with pytest.raises(InputError, match="manifest"):
        app(Arguments(models=str(tmp_path)))
    with pytest.raises(ValueError, match="replica"):
        Arguments(models="a", replica=2)


def test_a_replica_that_dies_at_its_start_is_a_lost_worker(monkeypatch):
    """The dispatcher starts another then; any other error would end its slot for good."""

    class Dead:
        @property
        def ready(self):
            return self

        async def remote(self):
            raise RayActorError

    monkeypatch.setattr(ray_app.serve, "get_deployment_handle", lambda name: Dead())
    with pytest.raises(WorkerLostError):
        asyncio.run(ray_app.Front._start())
