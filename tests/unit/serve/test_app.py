import asyncio
import json
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from fixtures.workers import FakeWorker, client_of
from schemathesis.specs.openapi.checks import positive_data_acceptance

URL = "/v1/images/generations"
JSON = {"Content-Type": "application/json"}


def ask(start: Any, *requests: dict[str, Any], **options: Any) -> list[httpx.Response]:
    """Answers of one server, one request after the other."""

    async def main() -> list[httpx.Response]:
        app, dispatcher = await start([FakeWorker()], **options)
        async with client_of(app) as client:
            answers = [
                await client.request(**{"method": "POST", "url": URL, **r}) for r in requests
            ]
        await dispatcher.close()
        return answers

    return asyncio.run(main())


def error(answer: httpx.Response) -> dict[str, Any]:
    found = answer.json()
    assert set(found) == {"error"}
    assert set(found["error"]) == {"message", "type", "param", "code"}
    return dict(found["error"])


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b"null", 400),
        (b"[" * 60_000, 400),
        (b'{"n": ' + b"9" * 50_000 + b"}", 400),
        (b'{"prompt": "a", "guidance_scale": NaN}', 400),
        (b'{"prompt": "a", "guidance_scale": 1e999}', 400),
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "\xff"}', 400),
        (b'{"prompt": "a", "n": true}', 400),
        (b'{"prompt": "a", "size": "64x64\\n"}', 400),
        ('{"prompt": "a", "size": "٦٤x٦٤"}'.encode(), 400),
        (b'{"prompt": "a", "model": "\\u0000"}', 404),
        (b'{"prompt": "\\u0000\\n\xf0\x9f\x98\x80", "n": null, "x": {"y": [1]}}', 200),
        (b" " * 70_000, 413),
    ],
    ids=lambda value: str(value)[:24],
)
def test_bodies(start, content, status):
    (answer,) = ask(start, {"content": content, "headers": JSON})
    assert answer.status_code == status
    if status != 200:
        assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "content",
    [b"{", b"[" * 60_000, b'{"prompt": "\xff"}', b"\x00"],
    ids=["cut off", "deep", "no text", "zero"],
)
def test_what_is_no_json_is_said(start, content):
    (answer,) = ask(start, {"content": content, "headers": JSON})
    assert (answer.status_code, error(answer)["code"]) == (400, "invalid_json")


def test_a_body_in_pieces_is_bounded(start):
    async def pieces() -> Any:
        for _ in range(70):
            yield b" " * 1024

    (answer,) = ask(start, {"content": pieces(), "headers": JSON})
    assert (answer.status_code, error(answer)["code"]) == (413, "request_too_large")


def test_other_answers_in_openais_form(start):
    found = ask(
        start,
        {"url": "/nowhere", "method": "GET"},
        {"url": "/v1/models/", "method": "GET"},
        {"method": "GET"},
        {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
        {"content": b"{}"},
        {"json": {}},
        {"json": {}, "headers": {"Host": "elsewhere.example"}},
        {"url": "/pictures/..%2f..%2fetc", "method": "GET"},
    )
    codes = [(answer.status_code, error(answer)["code"]) for answer in found]
    assert codes == [
        (404, "not_found"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (415, "unsupported_media_type"),
        (415, "unsupported_media_type"),
        (400, "missing_required_parameter"),
        (421, "wrong_host"),
        (404, "not_found"),
    ]
    assert error(found[5])["param"] == "prompt"
    for answer in found:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "`prompt` must be given"),
        ({"prompt": ""}, "prompt", "`prompt` must not be empty"),
        (
            {"prompt": "a", "size": "large"},
            "size",
            "`size` must be `auto` or WIDTHxHEIGHT, such as 512x512",
        ),
        ({"prompt": "a", "n": 11}, "n", "`n` must be at most 10"),
        ({"prompt": "a", "n": 9}, "n", "`n` must be at most 8 on this server"),  # its queue
        ({"prompt": "a", "seed": -1}, "seed", "`seed` must be at least 0"),
        ({"prompt": "a", "seed": 2**53}, "seed", "`seed` must be at most 9007199254740991"),
        (
            {"prompt": "a", "seed": 2**53 - 2, "n": 3},
            "seed",
            "`seed + n - 1` must be at most 9007199254740991",
        ),
        ({"prompt": "a", "stream": 1}, "stream", "`stream` must be true or false"),
        (
            {"prompt": "a", "seed": 1, "rng_seed": 1},
            None,
            "only one of `seed` and `rng_seed` may be given",
        ),
        ([], None, "the body must be an object"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_wrong_is_said_in_words(start, body, param, message):
    (answer,) = ask(start, {"json": body})
    assert answer.status_code == 400
    assert (error(answer)["param"], error(answer)["message"]) == (param, message)


def test_openais_forms_are_not_here(start):
    form = {"files": {"image": b"x" * 100_000}, "data": {"prompt": "a"}}
    for name in ("edits", "variations"):
        (answer,) = ask(start, {"url": f"/v1/images/{name}", **form})
        assert (answer.status_code, error(answer)["code"]) == (404, "not_found")
        assert "no edits" in error(answer)["message"]


def test_a_defect_is_said_without_its_text(start, monkeypatch):
    def broken(*_: Any) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr("edgekd.serve.app.plan", broken)
    (answer,) = ask(start, {"json": {"prompt": "a"}})
    assert (answer.status_code, error(answer)["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_defaults_and_aliases(start):
    async def main() -> None:
        worker = FakeWorker()
        app, dispatcher = await start([worker])
        async with client_of(app) as client:
            bodies: list[dict[str, Any]] = [
                {},
                {"n": 2, "rng_seed": 5, "num_inference_steps": 7, "guidance_scale": 1},
                {"step": 4, "sampler": "LCM", "model": "gpt-image-1", "size": "32x48"},
                {"output_format": "jpeg", "output_compression": 30, "partial_images": 2},
            ]
            for body in bodies:
                answer = await client.post(URL, json={"prompt": "a", **body})
                assert answer.status_code == 200
        await dispatcher.close()
        drawn = [order.drawing for order in worker.orders]
        assert (drawn[0].steps, drawn[0].guidance_scale, drawn[0].sampler) == (3, 2.0, None)
        assert (drawn[0].height, drawn[0].width) == (64, 64)
        assert 0 <= drawn[0].seed < 2**32
        assert [(one.seed, one.steps) for one in drawn[1:3]] == [(5, 7), (6, 7)]
        assert (drawn[3].steps, drawn[3].sampler) == (4, "LCMScheduler")
        assert (drawn[3].height, drawn[3].width) == (48, 32)
        # No previews without a stream.
        assert (drawn[4].file_format, drawn[4].quality, drawn[4].previews) == ("jpeg", 30, 0)

    asyncio.run(main())


def test_times_of_pictures_as_recommended(start):
    async def main() -> None:
        worker = FakeWorker(answers=None)
        app, dispatcher = await start([worker])
        async with client_of(app) as client:

            async def drawn(seconds: float, **body: Any) -> float:
                count = len(worker.orders)
                asked = asyncio.create_task(client.post(URL, json={"prompt": "a", **body}))
                while len(worker.orders) == count:
                    await asyncio.sleep(0)
                worker.reply("picture", seconds=seconds)
                return float((await asked).json()["data"][0]["drawn_s"])

            async def told() -> float | None:
                (card,) = (await client.get("/v1/models")).json()["data"]
                assert (await client.get("/v1/models/starter")).json() == card
                assert card["examples"] == []  # its manifest has none
                assert card["size_bytes"] > 0
                assert card["max_n"] == 8  # as long as the queue
                return card["drawn_s"]

            assert await told() is None
            assert await drawn(7.0, steps=2) == 7.0
            assert await told() is None
            for seconds in (1.5, 4.0, 2.5):
                assert await drawn(seconds, seed=int(seconds)) == seconds
            assert await told() == 2.5
        await dispatcher.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["failed", "lost", "late"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_goes_wrong_in_a_worker(start, kind, stream):
    async def main() -> None:
        worker = FakeWorker(answers=None)
        app, dispatcher = await start([worker], timeout_s=0.2 if kind == "late" else 5.0)
        async with client_of(app) as client:
            asked = asyncio.create_task(
                client.post(URL, json={"prompt": "a", "n": 2, "stream": stream})
            )
            while not worker.orders:
                await asyncio.sleep(0)
            if kind == "failed":
                worker.reply("failed", message="pictures must be finite")
            if kind == "lost":
                worker.kill()
            answer = await asked
        await dispatcher.close()
        expected = {
            "failed": (500, "drawing_failed"),
            "lost": (503, "worker_lost"),
            "late": (504, "timeout"),
        }[kind]
        if stream:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "event: error" in answer.text
            assert f'"code": "{expected[1]}"' in answer.text
        else:
            assert (answer.status_code, error(answer)["code"]) == expected
            assert ("retry-after" in answer.headers) == (kind != "failed")
        # The other picture of the request is not drawn.
        assert len(worker.orders) <= 2
        assert kind != "late" or worker.stopped

    asyncio.run(main())


def test_a_stream_of_previews(start):
    async def main() -> str:
        worker = FakeWorker(answers=None)
        app, dispatcher = await start([worker])
        async with client_of(app) as client:
            body = {"prompt": "a", "stream": True, "partial_images": 1, "seed": 4}
            asked = asyncio.create_task(client.post(URL, json=body))
            while not worker.orders:
                await asyncio.sleep(0)
            assert worker.orders[0].drawing.previews == 1
            worker.reply("preview", step=1, steps=3)
            worker.reply("picture")
            answer = await asked
        await dispatcher.close()
        return answer.text

    blocks = [block.splitlines() for block in asyncio.run(main()).split("\r\n\r\n") if block]
    names = [lines[0].removeprefix("event: ") for lines in blocks]
    data = [json.loads(lines[1].removeprefix("data: ")) for lines in blocks]
    assert names == ["image_generation.partial_image", "image_generation.completed"]
    assert [row["type"] for row in data] == names
    assert (data[0]["step"], data[0]["steps"], data[1]["seed"]) == (1, 3, 4)


def test_requests_made_from_the_description(start):
    """No answer that the description does not foresee, for requests that it allows and others."""
    loop = asyncio.new_event_loop()
    app, dispatcher = loop.run_until_complete(start([FakeWorker()]))
    client = client_of(app, **JSON)
    document = loop.run_until_complete(client.get("/openapi.json")).json()
    checked = []

    def check(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://localhost")
        names = ("method", "url", "json", "params")
        options = {name: request[name] for name in names if name in request}
        answer = loop.run_until_complete(client.request(**options))
        assert answer.status_code < 500
        # A sampler or a size may be of no use to the model, which no description tells.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        checked.append(answer.status_code)

    settings = hypothesis.settings(
        max_examples=10,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        modes = list(schemathesis.GenerationMode)
        for mode in modes if operation.method == "post" else modes[:1]:
            cases = operation.as_strategy(generation_mode=mode)
            settings(hypothesis.given(case=cases)(check))()
    loop.run_until_complete(dispatcher.close())
    loop.close()
    assert {200, 400, 404} <= set(checked)
