"""An agent as a process of its own, and every fault that its hosts and their models may have."""

import concurrent.futures
import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from fixtures.agents import DRAWING, Agent, code_of, export_job, measuring_agent, put, speed
from fixtures.exported import write_export
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.xdist_group("agent")
_ENDLESS = 2**40  # turns of a loop


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    arguments = ["--max-file", "4M", "--quota", "16M", "--threads", "1", "--memory-limit", "700M"]
    with measuring_agent(tmp_path_factory.mktemp("agent"), *arguments) as started:
        yield started


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("export") / "student")


@pytest.fixture(scope="module")
def files(agent, export) -> dict[str, str]:
    return agent.files(export)


def looping(folder: Path, grows: bool) -> bytes:
    """A U-Net that turns and turns, and doubles its state in every turn if it grows."""
    made = onnx.load(folder / "unet" / "model.onnx")
    state, result = ("state", "result")
    body = [
        helper.make_node("Concat", [state, state], ["next"], axis=0)
        if grows
        else helper.make_node("Identity", [state], ["next"]),
        helper.make_node("Identity", ["go"], ["going"]),
    ]
    vector = ["K"]
    inner = helper.make_graph(
        body,
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info(state, TensorProto.FLOAT, vector),
        ],
        [
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, vector),
        ],
    )
    weights = {"turns": np.int64(_ENDLESS), "yes": np.bool_(True), "one": np.array([0])}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()
    )
    old = next(node for node in made.graph.node if "out_sample" in node.output)
    old.output[0] = "before"
    made.graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["timestep", "one"], ["begin"]),
            helper.make_node("Loop", ["turns", "yes", "begin"], [result], body=inner),
            helper.make_node("ReduceSum", [result], ["turned"], keepdims=0),
            helper.make_node("Add", ["before", "turned"], ["out_sample"]),
        ]
    )
    return made.SerializeToString()


def measured(agent: Agent, files: dict[str, str]) -> dict:
    """What a small job gives; the agent is well."""
    found = agent.run(export_job(files, speed=speed(1)))
    assert found["state"] == "done", found
    return found["result"]


def failure(agent: Agent, files: dict[str, str], **settings) -> tuple[str, str]:
    found = agent.run(export_job(files, **(settings or {"speed": speed(1)})))
    if found["state"] == "done":
        row = found["result"]["rows"]["a"]
        return "row", row["failure"]
    assert found["state"] == "failed", found
    return found["failure"]["code"], found["failure"]["message"]


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


def test_a_folder_is_measured_with_all_that_is_asked_for(agent, files):
    point = {"row": "a", "drawing": {**DRAWING, "steps": 1}, "threads": 1, "memory": False}
    asked = {"speed": speed(3), "memory": True, "cold_starts": 1}
    found = agent.run(export_job(files, **asked, points=[point], point_runs=2))
    assert found["state"] == "done", found
    row = found["result"]["rows"]["a"]
    assert set(row["timings"]) == {"image", "text_encoder", "unet", "unet_guided", "vae_decoder"}
    assert [len(row["timings"][part]["samples_ms"]) for part in ("image", "unet")] == [3, 2]
    assert 0 < row["memory"]["baseline_bytes"] < row["memory"]["peak_bytes"]
    assert all(value > 0 for value in row["cold_starts"][0].values())
    assert [len(one["samples_ms"]) for one in found["result"]["points"]] == [2]
    assert list((agent.folder / "work").iterdir()) == []
    assert agent.children() == []


def test_graphs_are_timed_beside_the_reference(agent, export, tmp_path):
    from edgekd.files import write_tensors

    noise = np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)
    inputs = {
        "sample": noise,
        "timestep": np.array([3.0], np.float32),
        "encoder_hidden_states": np.ones((1, 77, 8), np.float32),
    }
    write_tensors(tmp_path / "inputs.safetensors", inputs)
    graph = {
        "unet/model.onnx": agent.upload((export / "unet" / "model.onnx").read_bytes()),
        "inputs.safetensors": agent.upload((tmp_path / "inputs.safetensors").read_bytes()),
    }
    broken = {**graph, "unet/model.onnx": agent.upload(b"\x3a\x00")}
    job = {
        "kind": "graph",
        "graphs": {
            "block": {"files": graph, "component": "unet", "whole": False},
            "broken": {"files": broken, "component": "unet", "whole": False},
            "whole": {"files": graph, "component": "unet", "whole": True},
        },
        "reference": {"files": graph},
        "settings": {
            **{"runtime": "onnx", "precision": "fp32", "threads": 1},
            **{"seconds": 0.01, "batches": 1, "known_well": 1.0},
        },
    }
    found = agent.run(job)
    assert found["state"] == "done", found
    graphs = found["result"]["graphs"]
    assert "model that onnxruntime can open" in graphs["broken"]["failure"]
    for name, weighed in (("block", False), ("whole", True)):
        times = graphs[name]["times"]
        assert len(times["graph_ms"]) == len(times["reference_ms"]) >= 7
        assert (times["peak_bytes"] > times["baseline_bytes"] > 0) is weighed
    job["settings"]["runtime"] = "abacus"
    answer = agent.http.put(f"/v1/jobs/{uuid.uuid4().hex}", json={"job": job})
    assert (answer.status_code, code_of(answer)) == (400, "invalid_value")


def test_nobody_is_answered_without_the_token(agent):
    for token in ("x", "x" * 32, agent.token[:-1], agent.token + "x"):
        with agent.client(Authorization=f"Bearer {token}") as other:
            for ask in (other.get("/v1/hello"), other.get("/openapi.json"), other.delete("/v1/x")):
                assert (ask.status_code, code_of(ask)) == (401, "invalid_api_key")
    assert agent.token not in agent.log_file.read_text(encoding="utf-8")


def test_another_version_of_the_protocol_is_refused_clearly(agent):
    for version in ("0", "2", "", "x"):
        with agent.client(**{"Edgekd-Protocol": version}) as other:
            answer = other.get(f"/v1/jobs/{'0' * 32}")
            assert (answer.status_code, code_of(answer)) == (400, "unsupported_protocol")
            assert "version 1 of the protocol" in answer.json()["error"]["message"]


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


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"../../etc/passwd.json": "0" * 64}, "plain names"),
        ({"unet/model.pkl": "0" * 64}, "a file must be one of"),
        ({"libcustom_op.so": "0" * 64}, "a file must be one of"),
        ({"export.zip": "0" * 64}, "a file must be one of"),
    ],
)
def test_files_that_no_runtime_reads_are_refused(agent, files, says):
    answer = agent.http.put(f"/v1/jobs/{uuid.uuid4().hex}", json={"job": export_job(files)})
    assert answer.status_code == 400
    assert says in answer.text
    assert not any(digest in answer.text for digest in files.values())


@pytest.mark.parametrize("location", ["../../../../../../etc/passwd", "/etc/passwd"])
def test_weights_outside_of_the_folder_are_refused(agent, export, files, location):
    made = onnx.load(export / "unet" / "model.onnx")
    (tensor,) = (one for one in made.graph.initializer if one.name == "matrix")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    digest = agent.upload(made.SerializeToString())
    code, message = failure(agent, {**files, "unet/model.onnx": digest})
    assert code == "input"
    assert "must lie in files beside it" in message


def test_a_link_in_the_store_is_not_followed(agent, export, files):
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


def test_a_custom_operator_has_no_library(agent, export, files):
    made = onnx.load(export / "unet" / "model.onnx")
    made.graph.node.append(helper.make_node("Steal", ["sample"], ["x"], domain="evil"))
    made.opset_import.append(helper.make_opsetid("evil", 1))
    digest = agent.upload(made.SerializeToString())
    code, message = failure(agent, {**files, "unet/model.onnx": digest})
    assert code == "row"
    assert "must be a model that onnxruntime can open" in message


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x80\x04\x95", random.Random(0).randbytes(4096), b"\x3a\x00"],
    ids=["nothing", "zip", "pickle", "noise", "no graph"],
)
def test_a_model_that_is_none_stops_nothing(agent, files, content):
    digest = agent.upload(content)
    assert failure(agent, {**files, "unet/model.onnx": digest})[0] in ("input", "row")


def test_what_a_model_says_has_no_path_of_this_machine(agent, files, export):
    spoilt = (export / "unet" / "model.onnx").read_bytes()[:-700_000]
    for path, content in (
        ("unet/model.onnx", spoilt),
        ("manifest.json", b"{}"),
        ("tokenizer/vocab.json", b"[]"),
        ("model_index.json", b'{"_class_name": "X"}'),
    ):
        digest = agent.upload(content)
        message = failure(agent, {**files, path: digest})[1]
        assert message, path
        for secret in (str(agent.folder), str(Path.home()), sys.prefix, "/work", "/tmp"):
            assert secret not in message.replace("0/", "")


def test_a_model_that_allocates_without_end_is_ended(agent, files, export):
    digest = agent.upload(looping(export, grows=True))
    found = agent.run(export_job({**files, "unet/model.onnx": digest}, speed=speed(1)))
    told = found["failure"] or {"message": found["result"]["rows"]["a"]["failure"]}
    assert any(word in str(told) for word in ("memory", "alloc")), found
    assert agent.children() == []
    measured(agent, files)


def test_a_model_that_never_returns_is_cancelled_with_its_process(agent, files, export):
    digest = agent.upload(looping(export, grows=False))
    job = export_job({**files, "unet/model.onnx": digest}, speed=speed(1))
    number = agent.submit(job)["id"]
    assert agent.wait(number, "running")["state"] == "running"
    assert agent.http.delete(f"/v1/jobs/{number}").json()["state"] == "cancelled"
    assert agent.children() == []
    measured(agent, files)


def test_a_killed_process_fails_its_job_alone(agent, files, export):
    digest = agent.upload(looping(export, grows=False))
    number = agent.submit(export_job({**files, "unet/model.onnx": digest}, speed=speed(1)))["id"]
    processes(agent)[0].send_signal(signal.SIGSEGV)
    found = agent.wait(number)
    assert found["failure"]["code"] == "crashed"
    assert "SIGSEGV" in found["failure"]["message"]
    measured(agent, files)


def test_a_hundred_requests_at_once_are_answered(agent, files):
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


def test_more_threads_than_the_device_gives_are_refused(agent, files):
    answer = agent.http.put(
        f"/v1/jobs/{uuid.uuid4().hex}", json={"job": export_job(files, threads=2)}
    )
    assert (answer.status_code, code_of(answer)) == (400, "invalid_value")


def processes(agent: Agent) -> list[psutil.Process]:
    """Those that measure, as soon as there are any."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(agent.process.pid).children(recursive=True)
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError("no process")


def test_a_job_ends_in_its_time_and_with_its_agent(export, tmp_path):
    """A killed agent finds its files again, and no half job."""
    with measuring_agent(tmp_path, "--job-time", "3", "--token", "t" * 16) as first:
        files = first.files(export)
        endless = {**files, "unet/model.onnx": first.upload(looping(export, grows=False))}
        found = first.run(export_job(endless, speed=speed(1)))
        assert (found["state"], found["failure"]["code"]) == ("failed", "timeout")
        assert first.children() == []
        first.submit(export_job(endless, speed=speed(1)))
        left = processes(first)
        assert first.terminate() == 0
        assert psutil.wait_procs(left, timeout=30)[1] == []
    with measuring_agent(tmp_path, "--token", "t" * 16) as second:
        answer = second.http.post("/v1/blobs", json={"digests": list(files.values())})
        assert all(blob["complete"] for blob in answer.json()["blobs"])
        number = second.submit(export_job(endless, speed=speed(1)))["id"]
        left = processes(second)
        second.process.kill()
        assert psutil.wait_procs(left, timeout=30)[1] == []
    with measuring_agent(tmp_path, "--token", "t" * 16) as third:
        assert list((third.folder / "work").iterdir()) == []
        assert third.http.get(f"/v1/jobs/{number}").status_code == 404


def test_a_full_disk_is_said_and_survived(export, tmp_path):
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
