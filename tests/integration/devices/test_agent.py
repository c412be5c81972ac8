"""An agent as a process of its own: who is answered, and how."""

import concurrent.futures
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
import uuid

import pytest
from fixtures.agents import code_of, measuring_agent, put
from fixtures.shared_agent import agent

pytestmark = pytest.mark.xdist_group("agent")
__all__ = ["agent"]


def test_a_host_learns_what_the_device_is(agent):
    hello = agent.http.get("/v1/hello", headers={"Edgekd-Protocol": "99"}).json()
    assert hello["protocols"] == [1]
    assert hello["limits"]["threads"] == 1
    runs = {one["name"]: one["runs"] for one in hello["runtimes"]}
    assert runs["onnx"] is True
    assert runs["coreml"] is (sys.platform == "darwin")
    assert socket.gethostname() not in hello["environment"].values()
    first, second = (agent.http.get("/v1/clock").json()["monotonic_ns"] for _ in range(2))
    assert 0 < second - first < 60 * 10**9


def test_nobody_is_answered_without_the_token(agent):
    for token in ("x", "x" * 32, agent.token[:-1], agent.token + "x"):
        with agent.client(Authorization=f"Bearer {token}") as other:
            for ask in (other.get("/v1/hello"), other.get("/openapi.json"), other.delete("/v1/x")):
                assert (ask.status_code, code_of(ask)) == (401, "invalid_api_key")
            # What `edgekd serve` has without a token an agent has not.
            for path in ("/", "/healthz", "/readyz", "/pictures/x", "/page/x"):
                assert code_of(other.post(path, content=b"x" * 4096)) == "invalid_api_key"
    assert agent.token not in agent.log_file.read_text(encoding="utf-8")


def test_no_request_is_sent_elsewhere(agent):
    for path in ("/v1/blobs/", "/v1/hello/", "/v1/jobs/"):
        answer = agent.http.get(path, headers={"Host": "elsewhere.example"})
        assert (answer.status_code, code_of(answer)) == (404, "not_found")


def test_another_version_of_the_protocol_is_refused_clearly(agent):
    for version in ("0", "2", "", "x"):
        with agent.client(**{"Edgekd-Protocol": version}) as other:
            answer = other.get(f"/v1/jobs/{'0' * 32}")
            assert (answer.status_code, code_of(answer)) == (400, "unsupported_protocol")
            assert "version 1 of the protocol" in answer.json()["error"]["message"]


def test_a_hundred_requests_at_once_are_answered(agent):
    job = {"job": {"kind": "check", "runs": 1, "sleep_ms": 1}}

    def ask(index: int) -> int:
        if index % 2:
            return agent.http.put(f"/v1/jobs/{uuid.uuid4().hex}", json=job).status_code
        content = os.urandom(1000)
        return put(agent.http, hashlib.sha256(content).hexdigest(), 0, 1000, content).status_code

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        found = list(pool.map(ask, range(100)))
    assert set(found) <= {200, 202, 429}
    # One runs and eight wait at least; how many more are done meanwhile, the machine decides.
    assert found.count(202) >= 9
    assert found.count(200) >= 1
    until = time.monotonic() + 60
    while agent.http.put(f"/v1/jobs/{'a' * 32}", json=job).status_code == 429:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert agent.wait("a" * 32)["state"] == "done"


def test_other_machines_are_met_with_a_pinned_certificate(tmp_path):
    import ssl

    with measuring_agent(tmp_path, "--host", "0.0.0.0") as agent:
        port = int(agent.address.rsplit(":", 1)[1])
        pem = ssl.get_server_certificate(("127.0.0.1", port))
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        assert agent.address.startswith("https://")
        assert agent.fingerprint == f"sha256:{found}"
        agent.http.base_url = f"https://127.0.0.1:{port}"
        assert agent.http.get("/v1/hello").status_code == 200
        if os.name == "posix":
            modes = [(agent.folder / name).stat().st_mode & 0o77 for name in ("key.pem", "token")]
            assert modes == [0, 0]
        line = agent.line
        second = subprocess.run(
            [sys.executable, "-m", "edgekd.devices", "--folder", str(agent.folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 2
        assert "which another agent uses" in second.stderr
    with measuring_agent(tmp_path, "--host", "0.0.0.0") as again:
        assert [again.fingerprint, again.token] == [agent.fingerprint, agent.token]
        assert line.split("fingerprint")[1] == again.line.split("fingerprint")[1]
    with contextlib.suppress(FileNotFoundError):
        assert agent.token not in (tmp_path / "log").read_text(encoding="utf-8")
