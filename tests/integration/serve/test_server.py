"""A server and its workers as processes, asked by OpenAI's own client."""

import asyncio
import base64
import io
import itertools
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import openai
import pytest
from fixtures.exported import write_export
from fixtures.servers import ROOT, Server, paused, serving
from PIL import Image

from edgekd.runtime import Pipeline

TOKEN = "a-token-of-a-test"
OPTIONS = ("--workers", "1", "--threads", "1", "--queue", "4", "--timeout", "60", "--grace", "60")


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    write_export(folder / "fast")
    write_export(folder / "slow", slow=2)
    write_export(folder / "fixed", dynamic=False)
    return folder


@pytest.fixture(scope="module")
def server(exports, tmp_path_factory) -> Iterator[Server]:
    models = [str(exports / name) for name in ("fast", "slow", "fixed")]
    with serving(tmp_path_factory.mktemp("server"), *models, *OPTIONS, EDGEKD_TOKEN=TOKEN) as one:
        yield one


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0)


def post(server: Server, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{server.url}/v1/images/generations"
    return httpx.post(url, json={"prompt": "red apple", **body}, headers=headers, timeout=60)


def pixels(content: str | bytes) -> Any:
    data = base64.b64decode(content) if isinstance(content, str) else content
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def figures(server: Server) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    lines = httpx.get(f"{server.url}/metrics", headers=headers).text.splitlines()
    rows = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def wait_until(true: Any) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_clients_pictures_are_the_runtimes(client, exports):
    options: dict[str, Any] = {"steps": 5, "guidance_scale": 3.0, "negative_prompt": "blue"}
    answer = client.images.generate(
        model="dall-e-3",
        prompt="red apple",
        n=2,
        size="96x64",
        quality="hd",
        extra_body={"seed": 7, **options, "sampler": "euler", "unknown": [1]},
    )
    pipeline = Pipeline.open(exports / "fast", threads=1, sampler="euler")
    for index, item in enumerate(answer.data):
        (expected,) = pipeline.generate(
            ["red apple"], seed=7 + index, height=64, width=96, **options
        )
        np.testing.assert_array_equal(pixels(item.b64_json), expected)
        assert item.seed == 7 + index
    assert (answer.size, answer.output_format, answer.quality) == ("96x64", "png", "hd")
    with Image.open(io.BytesIO(base64.b64decode(answer.data[1].b64_json))) as image:
        told = json.loads(image.info["parameters"])
    assert told.pop("edgekd")
    assert told == {
        "model": "fast",
        "seed": 8,
        "steps": 5,
        "guidance_scale": 3.0,
        "sampler": "EulerDiscreteScheduler",
        "size": "96x64",
    }


def test_models(client):
    assert [model.id for model in client.models.list()] == ["fast", "slow", "fixed"]
    assert client.models.retrieve("slow").id == "slow"
    assert client.models.retrieve("gpt-image-1").id == "fast"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_other_files_by_address(client, file_format):
    sizes = []
    for compression in (95, 10):
        (item,) = client.images.generate(
            prompt="red apple",
            response_format="url",
            output_format=file_format,
            output_compression=compression,
            extra_body={"rng_seed": 1, "step": 1},
        ).data
        assert item.b64_json is None
        found = httpx.get(item.url)  # no token: the name is secret
        assert found.headers["content-type"] == f"image/{file_format}"
        assert pixels(found.content).shape == (64, 64, 3)
        sizes.append(len(found.content))
    assert sizes[1] < sizes[0]
    assert httpx.get(item.url[:-1]).status_code == 404


def test_a_stream(client):
    stream = client.images.generate(
        prompt="red apple",
        stream=True,
        partial_images=2,
        extra_body={"num_inference_steps": 9, "seed": 3},
    )
    *partial, last = list(stream)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert [(event.step, event.steps) for event in partial] == [(3, 9), (6, 9)]
    assert last.type == "image_generation.completed"
    whole = client.images.generate(prompt="red apple", extra_body={"steps": 9, "seed": 3})
    assert last.b64_json == whole.data[0].b64_json
    pictures = [pixels(event.b64_json) for event in (*partial, last)]
    assert all((one != other).any() for one, other in itertools.pairwise(pictures))


def test_the_asynchronous_client(server):
    async def ask() -> list[Any]:
        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": TOKEN}
        async with openai.AsyncOpenAI(**options) as client:
            several = [
                client.images.generate(prompt=prompt, extra_body={"seed": seed})
                for prompt in ("red apple", "blue car")
                for seed in (1, 2)
            ]
            answers = await asyncio.gather(*several)
            stream = await client.images.generate(
                prompt="blue car", stream=True, n=2, extra_body={"seed": 1}
            )
            events = [event async for event in stream]
            assert [event.seed for event in sorted(events, key=lambda one: one.index)] == [1, 2]
            found = [answer.data[0].b64_json for answer in answers]
            assert {event.b64_json for event in events} == set(found[2:])
            return found

    assert len(set(asyncio.run(ask()))) == 4


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"prompt": ""}, 400, "prompt", "invalid_value"),
        ({"prompt": "a" * 4001}, 400, "prompt", "invalid_value"),
        ({"prompt": 7}, 400, "prompt", "invalid_value"),
        ({"n": 11}, 400, "n", "invalid_value"),
        ({"n": 5}, 400, "n", "invalid_value"),  # more than the queue is long
        ({"size": "70x64"}, 400, "size", "invalid_value"),
        ({"size": "large"}, 400, "size", "invalid_value"),
        ({"size": "4096x4096"}, 400, "size", "invalid_value"),
        ({"model": "fixed", "size": "32x32"}, 400, "size", "invalid_value"),
        ({"background": "transparent"}, 400, "background", "invalid_value"),
        ({"steps": 2000}, 400, "steps", "invalid_value"),
        ({"seed": -1}, 400, "seed", "invalid_value"),
        ({"sampler": "fastest"}, 400, "sampler", "invalid_value"),
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"user": "u" * 70_000}, 413, None, "request_too_large"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_refusals_in_openais_form(server, body, status, param, code):
    answer = post(server, **body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    if body.get("model") == "fixed":
        assert "must be 64 by 64 pixels" in error["message"]


def test_the_token(server):
    for key in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}"):
        headers = {"Authorization": key} if key else {}
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    for path in ("healthz", "readyz"):
        assert httpx.get(f"{server.url}/{path}").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ".ljust(65_540, b"x"),  # just above its limit
    ],
    ids=["none", "length", "headers without an end"],
)
def test_what_is_no_http(server, content):
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        client.sendall(content)
        with client.makefile("rb") as stream:
            assert stream.readline() == b"HTTP/1.1 400 Bad Request\r\n"
            body = stream.read().partition(b"\r\n\r\n")[2]
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_a_body_that_is_too_long_does_not_cost_its_client_the_answer(server):
    address = urlsplit(server.url)
    post = "POST /v1/images/generations HTTP/1.1"
    lines = [f"Host: {address.netloc}", f"Authorization: Bearer {TOKEN}"]
    long = [post, *lines, "Content-Type: application/json", "Content-Length: 2000000", "", ""]
    statuses = []
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        for content in (b" " * 2_000_000, b""):
            head = "\r\n".join(long if content else ["GET /healthz HTTP/1.1", *lines, "", ""])
            client.sendall(head.encode() + content)
            answer = HTTPResponse(client)
            answer.begin()
            answer.read()
            statuses.append(answer.status)
    assert statuses == [413, 200]


def test_no_torch_in_any_process(server):
    server.wait_for("worker ready")
    for pid in (server.process.pid, *server.worker_pids()):
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        assert "libtorch" not in maps
    assert "onnxruntime" in maps
    assert "onnxruntime" not in Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")


def test_a_full_queue_and_a_client_that_goes(server):
    before = figures(server)["edgekd_pictures_stopped_total"]
    body = json.dumps({"prompt": "red apple", "model": "slow", "steps": 500, "n": 4})
    address = urlsplit(server.url)
    lines = ["POST /v1/images/generations HTTP/1.1", f"Host: {address.netloc}"]
    lines += [f"Authorization: Bearer {TOKEN}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", "", body]
    with (
        paused(server.worker_pids()[-1]),
        socket.create_connection((address.hostname, address.port)) as client,
    ):
        client.sendall("\r\n".join(lines).encode())
        wait_until(lambda: figures(server)["edgekd_queue_length"] == 3)
        answer = post(server, n=2)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
    # Its pictures leave the queue and the worker: the next one is drawn soon.
    assert post(server, steps=1).status_code == 200
    assert figures(server)["edgekd_pictures_stopped_total"] == before + 4


def test_a_killed_worker_costs_its_picture_alone(server):
    worker = server.worker_pids()[-1]
    with ThreadPoolExecutor(2) as pool, paused(worker):
        first = pool.submit(post, server, model="slow", steps=5)
        wait_until(lambda: figures(server)["edgekd_pictures_running"] == 1)
        second = pool.submit(post, server, steps=2)
        wait_until(lambda: figures(server)["edgekd_queue_length"] == 1)
        os.kill(worker, signal.SIGKILL)
        answer = first.result()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "worker_lost"
        assert answer.headers["retry-after"] == "1"
        assert second.result().status_code == 200
    assert len(server.worker_pids()) == 2


def test_prompts_are_not_logged_and_ids_go_along(server):
    secret = "a very secret dragon " * 30  # longer than the tokenizer takes
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "mine-1"}
    url = f"{server.url}/v1/images/generations"
    body = {"prompt": secret, "steps": 1}
    assert httpx.post(url, json=body, headers=headers).headers["x-request-id"] == "mine-1"
    odd = {**headers, "X-Request-Id": 'a"b'}
    given = httpx.post(url, json={"prompt": [secret]}, headers=odd)
    assert given.status_code == 400
    assert len(given.headers["x-request-id"]) == 32
    assert given.headers["content-security-policy"].startswith("default-src 'none'")
    wait_until(lambda: [row for row in server.events("request") if row["request_id"] == "mine-1"])
    text = server.log_file.read_text(encoding="utf-8")
    assert "dragon" not in text
    assert TOKEN not in text
    assert all(line.startswith("{") for line in text.splitlines())


def test_sigterm_finishes_what_runs(exports, tmp_path):
    options = [*OPTIONS, "--log-prompts", "--embed-prompt"]
    with serving(tmp_path / "server", str(exports / "slow"), *options) as server:
        server.wait_for("worker ready")
        with ThreadPoolExecutor(1) as pool:
            with paused(*server.worker_pids()):
                running = pool.submit(post, server, steps=5)
                wait_until(lambda: figures(server)["edgekd_pictures_running"] == 1)
                server.terminate()
                server.wait_for("shutting down")
                refused = post(server)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
                assert httpx.get(f"{server.url}/readyz").status_code == 503
            answer = running.result()
        assert answer.status_code == 200
        with Image.open(
            io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))
        ) as image:
            assert json.loads(image.info["parameters"])["prompt"] == "red apple"
        assert server.process.wait(60) == 0
        assert server.events("request")[-1]["prompt"] == "red apple"
        assert not any(Path(f"/proc/{pid}").exists() for pid in server.worker_pids())


def test_a_server_that_cannot_start_says_why(exports, tmp_path, run_python):
    broken = tmp_path / "broken"
    shutil.copytree(exports / "fast", broken)
    (broken / "unet" / "model.onnx").write_bytes(b"none")
    (broken / "artifact.json").unlink(missing_ok=True)  # which would say it first
    code = "import sys; from edgekd.serve.__main__ import main; sys.exit(main(sys.argv[1:]))"
    result = run_python(code, broken, "--port", "0", env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: the default model must be ready to draw, but got")
    assert "Traceback" not in result.stderr


def test_workers_end_with_a_killed_server(exports, tmp_path):
    with serving(tmp_path / "server", str(exports / "fast"), *OPTIONS) as server:
        answer = httpx.get(f"{server.url}/v1/models", headers={"Host": "elsewhere.example"})
        assert answer.status_code == 421
        (pid,) = server.worker_pids()
        server.close()
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
