"""Files on their way to an agent, and all that may happen to them there."""

import hashlib
import os
import socket
import uuid

import psutil
import pytest
from fixtures.agents import code_of, export_job, measuring_agent, put
from fixtures.shared_agent import agent, export, measured

pytestmark = pytest.mark.xdist_group("agent")
__all__ = ["agent", "export"]


def test_a_corrupted_upload_begins_again(agent):
    content = os.urandom(300_000)
    digest, half = hashlib.sha256(content).hexdigest(), 150_000
    assert put(agent.http, digest, 0, len(content), content[:half]).json()["received"] == half
    spoilt = bytes([content[half] ^ 1]) + content[half + 1 :]
    answer = put(agent.http, digest, half, len(content), spoilt)
    assert (answer.status_code, code_of(answer)) == (422, "hash_mismatch")
    assert agent.http.get(f"/v1/blobs/{digest}").json()["received"] == 0
    assert agent.upload(content) == digest


def test_a_cut_upload_goes_on_from_its_last_chunk(agent):
    content = os.urandom(300_000)
    digest = hashlib.sha256(content).hexdigest()
    put(agent.http, digest, 0, len(content), content[:100_000])
    host, port = agent.address.removeprefix("http://").split(":")
    head = (
        f"PUT /v1/blobs/{digest}?offset=100000&size=300000 HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {agent.token}\r\nEdgekd-Protocol: 1\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as link:
        link.sendall(head.encode() + content[100_000:150_000])  # and the link is cut
    for _ in range(2):
        state = agent.http.get(f"/v1/blobs/{digest}").json()
        assert (state["received"], state["complete"]) == (100_000, False)
    answer = put(agent.http, digest, 0, len(content), content[:100_000])
    assert answer.json()["error"]["received"] == 100_000
    sent = agent.http.put
    offsets = []
    agent.http.put = lambda *a, **k: (offsets.append(k["params"]["offset"]), sent(*a, **k))[1]
    try:
        agent.upload(content, chunk=100_000)
        agent.upload(content)  # known: nothing is sent
    finally:
        agent.http.put = sent
    assert offsets == [100_000, 200_000]


def test_two_gigabytes_are_refused_before_they_are_sent(agent):
    size = 2_000_000_000
    answer = put(agent.http, "0" * 64, 0, size, b"x")
    assert (answer.status_code, code_of(answer)) == (413, "file_too_large")
    host, port = agent.address.removeprefix("http://").split(":")
    head = (
        f"PUT /v1/blobs/{'0' * 64}?offset=0&size={size} HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {agent.token}\r\nEdgekd-Protocol: 1\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as link:
        link.sendall(head.encode())
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_the_store_is_never_larger_than_its_quota(agent, export):
    for number in range(6):
        agent.upload(bytes([number]) * (3 << 20))
    blobs = [path.stat().st_size for path in (agent.folder / "blobs").rglob("*") if path.is_file()]
    assert sum(blobs) <= 16 << 20
    missing = agent.http.put(
        f"/v1/jobs/{uuid.uuid4().hex}", json={"job": export_job({"a.json": "1" * 64})}
    )
    assert (missing.status_code, code_of(missing)) == (409, "missing_files")
    assert missing.json()["error"]["missing"] == ["1" * 64]
    measured(agent, agent.files(export))


def test_a_link_in_the_store_is_not_followed(agent):
    """Nothing that a host sends makes one; this one is put there."""
    content = b"secret"
    digest = hashlib.sha256(content).hexdigest()
    outside = agent.folder.parent / "outside.json"
    outside.write_bytes(content)
    (agent.folder / "blobs" / digest[:2]).mkdir(exist_ok=True)
    (agent.folder / "blobs" / digest[:2] / digest).symlink_to(outside)
    assert not agent.http.get(f"/v1/blobs/{digest}").json()["complete"]
    assert agent.upload(content) == digest
    path = agent.folder / "blobs" / digest[:2] / digest
    assert not path.is_symlink()
    assert outside.read_bytes() == content


def test_a_full_disk_is_said_and_survived(tmp_path):
    """RLIMIT_FSIZE stands for a disk that is full in the midst of a file."""
    folder = tmp_path / "agent"
    folder.mkdir()
    with measuring_agent(folder) as agent:
        resource = pytest.importorskip("resource")  # Windows has no such limits
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        psutil.Process(agent.process.pid).rlimit(psutil.RLIMIT_FSIZE, (200_000, hard))
        content = os.urandom(300_000)
        digest = hashlib.sha256(content).hexdigest()
        put(agent.http, digest, 0, len(content), content[:100_000])
        answer = put(agent.http, digest, 100_000, len(content), content[100_000:])
        assert (answer.status_code, code_of(answer)) == (413, "disk_full")
        assert agent.http.get(f"/v1/blobs/{digest}").json()["received"] == 100_000
        assert agent.upload(os.urandom(1000))
