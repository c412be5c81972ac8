"""Requests and files that no host would send: no defect, no file elsewhere, no process left."""

import hashlib
import os
import random
import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import schemathesis
from fixtures.agents import export_job, measuring_agent, put, speed
from fixtures.exported import write_export
from fixtures.mutations import changed_json
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.xdist_group("agent-fuzz")
# By hand, more: EDGEKD_FUZZ=10000.
_MUTATED = int(os.environ.get("EDGEKD_FUZZ", "60"))
_MEASURED = max(4, _MUTATED // 200)  # mutated models that are run too


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    options = ["--quota", "32M", "--max-file", "4M", "--job-time", "20", "--memory-limit", "1G"]
    with measuring_agent(folder, *options) as started:
        yield started
        assert started.process.poll() is None
        log = started.log_file.read_text(encoding="utf-8")
        assert '"defect"' not in log
        assert '"status": 5' not in log
        outside = {path.name for path in folder.iterdir()}
        assert outside == {"state", "log", "said"}
        inside = {path.name for path in started.folder.iterdir()}
        assert inside == {"lock", "token", "blobs", "partial", "work"}


@pytest.fixture(scope="module")
def schema(agent):
    return schemathesis.openapi.from_dict(agent.http.get("/openapi.json").json())


lazy = schemathesis.pytest.from_fixture("schema")


@lazy.parametrize()
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_requests_by_the_schema(case: Case, agent):
    headers = {"Authorization": f"Bearer {agent.token}", "Edgekd-Protocol": "1"}
    case.call_and_validate(
        base_url=agent.address,
        headers=headers,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes changed, cut out, put in twice or made longer."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        begin = int(rng.integers(len(changed)))
        end = begin + int(rng.integers(1, 64))
        how = rng.integers(4)
        if how == 0:
            changed[begin:end] = rng.bytes(len(changed[begin:end]))
        elif how == 1 and end - begin < len(changed):
            del changed[begin:end]
        elif how == 2:
            changed[begin:begin] = changed[begin:end]
        else:
            changed[begin:end] = b"\xff" * len(changed[begin:end])
    return bytes(changed)


def offered(rng: np.random.Generator, content: bytes) -> tuple[str, int, int, bytes]:
    """Digest, offset, size and chunk of an upload, of which at most one is a lie."""
    values = [hashlib.sha256(content).hexdigest(), 0, len(content), content]
    lies = [
        lambda: "".join(rng.choice(list("0123456789abcdef/.%-ZX"), 64)),
        lambda: int(rng.choice([-1, 1, 2**31, 2**63, len(content)])),
        lambda: int(rng.choice([-1, 0, 1, len(content) - 1, len(content) + 1, 2**40, 2**70 // 1])),
        lambda: mutated(rng, content),
    ]
    place = int(rng.integers(6))
    if place < len(lies):
        values[place] = lies[place]()
    return values[0], values[1], values[2], values[3]


def test_mutated_uploads(agent, tmp_path):
    rng = np.random.default_rng(0)
    export = write_export(tmp_path / "student")
    files = agent.files(export)
    paths = ["unet/model.onnx", "vae_decoder/model.onnx", "manifest.json", "unet/config.json"]
    paths += ["tokenizer/vocab.json", "model_index.json"]
    sources = [(path, (export / path).read_bytes()) for path in paths]
    statuses: Counter[int] = Counter()
    ends: Counter[str] = Counter()
    for number in range(_MUTATED):
        path, content = sources[int(rng.integers(len(sources)))]
        spoilt = mutated(rng, content if rng.integers(3) else content[:2000])
        statuses[put(agent.http, *offered(rng, spoilt)).status_code] += 1
        if number % (_MUTATED // _MEASURED) == 0:
            agent.files(export)  # they may have left
            changed = {**files, path: agent.upload(spoilt)}
            found = agent.run(export_job(changed, speed=speed(1)))
            assert found["state"] in ("done", "failed"), found
            assert (found["failure"] or {}).get("code") != "defect", found
            ends[_end(found)] += 1
    print(f"\nuploads by status: {dict(statuses)}; models that were run: {dict(ends)}")
    assert set(statuses) <= {200, 400, 404, 405, 409, 413, 422}
    assert agent.children() == []
    assert list((agent.folder / "work").iterdir()) == []
    names = [path.name for path in Path(agent.folder / "blobs").rglob("*") if path.is_file()]
    assert all(
        hashlib.sha256((agent.folder / "blobs" / name[:2] / name).read_bytes()).hexdigest() == name
        for name in names
    )


def _end(found: dict) -> str:
    if found["failure"]:
        return found["failure"]["code"]
    return "row failed" if found["result"]["rows"]["a"]["failure"] else "measured"


def test_mutated_jobs(agent):
    """Bytes changed, which leaves little JSON, and values changed, which leaves some jobs whole."""
    rng, values = np.random.default_rng(1), random.Random(1)
    body = export_job({"manifest.json": "0" * 64}, speed=speed(1), memory=True)
    text = str({"job": body}).replace("'", '"').replace("True", "true").encode()
    statuses: Counter[int] = Counter()
    for number in range(_MUTATED):
        answer = agent.http.put(
            f"/v1/jobs/{uuid.uuid4().hex}",
            content=changed_json(text.decode(), values) if number % 2 else mutated(rng, text),
            headers={"Content-Type": "application/json"},
        )
        statuses[answer.status_code] += 1
    print(f"\njobs by status (409: whole, its files are not there): {dict(statuses)}")
    deep = agent.http.put(
        f"/v1/jobs/{uuid.uuid4().hex}",
        content=b'{"job":' + b"[" * 100_000,
        headers={"Content-Type": "application/json"},
    )
    assert {*statuses, deep.status_code} <= {400, 409}
