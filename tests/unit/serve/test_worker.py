import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.exported import write_export
from PIL import Image

from edgekd.runtime import Pipeline
from edgekd.serve.logs import JsonFormatter
from edgekd.serve.messages import Drawing, Reply, Setup
from edgekd.serve.worker import Worker, preview_calls


@pytest.mark.parametrize(
    ("calls", "count", "expected"),
    [
        (9, 0, set()),
        (9, 2, {3, 6}),
        (25, 3, {6, 12, 19}),
        (2, 3, {1}),
        (1, 3, set()),
    ],
)
def test_previews_are_spaced_evenly(calls, count, expected):
    assert preview_calls(calls, count) - {0} == expected


@pytest.fixture
def quiet() -> Iterator[None]:
    """A worker has the log of its process; put back that of this one."""
    root, level = logging.getLogger(), logging.getLogger("edgekd.runtime").level
    handlers, root_level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(root_level)
    logging.getLogger("edgekd.runtime").setLevel(level)
    logging.getLogger("edgekd.serve").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("exports") / "tiny")


@pytest.fixture
def worker(export, quiet) -> Worker:
    setup = Setup({"tiny": str(export)}, 1, None, False, False)
    return Worker(setup, io.BytesIO(), io.BytesIO())


def drawing(**changes: Any) -> Drawing:
    values = {"seed": 3, "steps": 4, "guidance_scale": 2.0, "sampler": None, **changes}
    return Drawing("tiny", "red apple", None, height=64, width=64, **values)


def test_the_runtimes_picture(worker, export):
    reply = worker._answer(1, drawing())
    (expected,) = Pipeline.open(export, 1).generate(
        ["red apple"], seed=3, steps=4, guidance_scale=2.0
    )
    assert (reply.kind, reply.number, reply.loaded) == ("picture", 1, ("tiny",))
    with Image.open(io.BytesIO(reply.picture)) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_stopped_order_ends_between_steps(worker, monkeypatch):
    calls = []
    original = Pipeline.decode

    def decode(self: Pipeline, latents: Any) -> Any:
        calls.append(latents)
        worker._stopped = 1
        return original(self, latents)

    monkeypatch.setattr(Pipeline, "decode", decode)
    reply = worker._answer(1, drawing(previews=3))
    assert (reply.kind, reply.picture, len(calls)) == ("stopped", b"", 1)
    assert worker._answer(2, drawing()).kind == "picture"


def test_the_time_of_a_picture_is_without_loading_and_previews(worker, monkeypatch):
    now, decoded = [0.0], []
    original = Pipeline.decode

    def decode(self: Pipeline, latents: Any) -> Any:
        now[0] += 10.0
        decoded.append(latents)
        return original(self, latents)

    monkeypatch.setattr(Pipeline, "decode", decode)
    monkeypatch.setattr("edgekd.serve.worker.time.perf_counter", lambda: now[0])
    assert worker._answer(1, drawing(previews=3)).seconds == 10.0
    assert len(decoded) == 5  # one when the model was new, and three previews
    assert worker._answer(2, drawing()).seconds == 10.0
    assert len(decoded) == 6


def test_why_it_failed_stays_in_the_log(worker, monkeypatch, caplog):
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("/secret/path: red apple")

    monkeypatch.setattr(Pipeline, "generate", broken)
    with caplog.at_level(logging.INFO, "edgekd.serve"):
        reply = worker._answer(1, drawing())
    assert reply == Reply("failed", 1, reply.message, loaded=("tiny",))
    assert "secret" not in reply.message
    (record,) = [one for one in caplog.records if one.message == "drawing failed"]
    line = json.loads(JsonFormatter().format(record))
    assert (line["error"], line["level"], line["model"]) == ("RuntimeError", "error", "tiny")
    assert "red apple" not in json.dumps(line)
