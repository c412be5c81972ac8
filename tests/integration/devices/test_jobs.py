"""What an agent measures, and what models may do to it."""

import random
import signal
import sys
import uuid
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from fixtures.agents import DRAWING, Agent, code_of, export_job, measuring_agent, speed
from fixtures.exported import looping
from fixtures.shared_agent import agent, export, files, measured, processes
from onnx import TensorProto, helper

pytestmark = pytest.mark.xdist_group("agent")
__all__ = ["agent", "export", "files"]


def failure(agent: Agent, files: dict[str, str], **settings) -> tuple[str, str]:
    found = agent.run(export_job(files, **(settings or {"speed": speed(1)})))
    if found["state"] == "done":
        row = found["result"]["rows"]["a"]
        return "row", row["failure"]
    assert found["state"] == "failed", found
    return found["failure"]["code"], found["failure"]["message"]


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
    code, message = failure(agent, {**files, "unet/openvino_model.xml": digest})
    assert (code, "must be XML" in message) == ("input", True)


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


def test_more_threads_than_the_device_gives_are_refused(agent, files):
    answer = agent.http.put(
        f"/v1/jobs/{uuid.uuid4().hex}", json={"job": export_job(files, threads=2)}
    )
    assert (answer.status_code, code_of(answer)) == (400, "invalid_value")


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
