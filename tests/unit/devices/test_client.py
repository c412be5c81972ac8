"""The client against an agent in memory: what is sent, what is tried again, what is said."""

import hashlib
import socket
import ssl

import httpx
import pytest
from fixtures.fake_agent import CHECK, ENVIRONMENT, FakeAgent, once, refusal

from edgekd.devices.client import LostJobError, RemoteDevice
from edgekd.devices.link import LostDeviceError, Patience, RefusedError
from edgekd.devices.orders import CheckJob, ExportSettings, GraphSettings, PictureSettings
from edgekd.devices.protocol import ExportFolder, ExportOrder, GraphFolder, GraphOrder
from edgekd.errors import GateError, InputError
from edgekd.progress import Silent

DRAWING = PictureSettings(
    captions=("a",), seeds=(1,), side=32, sampler="DDIMScheduler", steps=2, guidance_scale=1.0
)
EXPORT = {
    "kind": "export", "environment": ENVIRONMENT, "load_average": None, "throttled": None,
    "energy_source": "none", "rows": {"student": {}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("edgekd.devices.link.time.sleep", lambda seconds: None)


@pytest.fixture
def folder(tmp_path):
    """A folder of files, one of which takes several chunks."""
    place = tmp_path / "export"
    (place / "unet").mkdir(parents=True)
    (place / "unet" / "model.onnx").write_bytes(bytes(range(256)) * 10)
    (place / "manifest.json").write_text("{}")
    (place / "README.md").write_text("a card: no runtime reads it")
    return place


def order(folder):
    rows = {"student": ExportFolder(folder, DRAWING)}
    return ExportOrder(rows, ExportSettings(threads=1))


def agent_for_exports(**changes):
    agent = FakeAgent(**changes)
    agent.outcome = {"state": "done", "result": dict(EXPORT)}
    return agent


def test_a_row_that_no_device_takes_is_refused_before_anything_is_sent(folder):
    agent = agent_for_exports()
    long = ExportOrder({"s" * 300: ExportFolder(folder, DRAWING)}, ExportSettings(threads=1))
    with pytest.raises(InputError, match=r"what device `.*` is asked must follow its schema"):
        agent.device().measure_exports(long)
    assert agent.blobs == {}


def sizes(agent):
    return sorted(map(len, agent.blobs.values()))


def test_a_known_model_is_not_uploaded_again(folder):
    agent = agent_for_exports()
    device = agent.device()
    device.measure_exports(order(folder))
    assert sizes(agent) == [2, 2560]
    assert device.link.sent == 2562
    (job,) = agent.jobs.values()
    assert set(job["rows"]["student"]["files"]) == {"manifest.json", "unet/model.onnx"}
    other = agent.device()
    other.measure_exports(order(folder))
    assert other.link.sent == 0


def test_an_upload_goes_on_where_it_was_cut(folder):
    agent = agent_for_exports()
    cut = once("PUT", "/v1/blobs", httpx.ReadError("cut"), 3)
    puts = []

    def third_chunk(request):
        puts.append(request.method == "PUT")
        return cut(request) if sum(puts) >= 3 else None

    agent.faults.append(third_chunk)
    device = agent.device()
    device.measure_exports(order(folder))
    assert sizes(agent) == [2, 2560]
    assert device.link.sent == 2562  # what broke on the way was not sent


def test_a_chunk_that_arrived_without_an_answer_is_not_sent_twice(folder):
    agent = agent_for_exports()

    def takes_and_is_silent(request):
        if request.method == "PUT" and "/v1/blobs" in request.url.path:
            agent.faults.remove(takes_and_is_silent)
            agent.answer(request)
            raise httpx.ReadTimeout("no answer")
        return None

    agent.faults.append(takes_and_is_silent)
    agent.device().measure_exports(order(folder))
    assert sizes(agent) == [2, 2560]


def test_a_damaged_upload_begins_anew_and_is_given_up_in_the_end(folder):
    agent = agent_for_exports()
    agent.faults.append(once("PUT", "/v1/blobs", refusal(422, "hash_mismatch")))
    agent.device().measure_exports(order(folder))
    assert sizes(agent) == [2, 2560]
    broken = agent_for_exports()
    broken.faults.append(once("PUT", "/v1/blobs", refusal(422, "hash_mismatch"), 10**6))
    with pytest.raises(InputError, match=r"0 of \d+ bytes, again and again"):
        broken.device().measure_exports(order(folder))


@pytest.mark.parametrize("there", [1000, 2560])
def test_an_upload_that_was_begun_with_another_size_begins_anew(folder, there):
    agent = agent_for_exports()
    content = (folder / "unet" / "model.onnx").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    agent.blobs[digest], agent.sizes[digest] = b"x" * there, 2561
    agent.device().measure_exports(order(folder))
    assert agent.blobs[digest] == content


def test_what_does_not_fit_is_refused_before_anything_is_sent(folder):
    limits = {**FakeAgent().description["limits"], "file_bytes": 100}
    agent = agent_for_exports(limits=limits)
    with pytest.raises(InputError, match="at most 100 bytes long"):
        agent.device().measure_exports(order(folder))
    assert not agent.blobs
    small = agent_for_exports(limits={**limits, "file_bytes": 4000, "store_bytes": 2000})
    with pytest.raises(InputError, match="must fit in its 2000 bytes"):
        small.device().measure_exports(order(folder))


def test_a_file_that_no_runtime_reads_is_refused_here(folder):
    with pytest.raises(InputError, match="got none"):
        agent_for_exports().device().measure_exports(order(folder / "empty"))
    (folder / "run.py").write_text("print()")
    with pytest.raises(InputError, match="must be a model that agents take"):
        agent_for_exports().device().measure_exports(order(folder))


def test_graphs_bring_their_reference(folder):
    agent = FakeAgent()
    result = {"kind": "graph", "environment": ENVIRONMENT, "throttled": None, "graphs": {"a": {}}}
    agent.outcome = {"state": "done", "result": result}
    settings = GraphSettings(
        runtime="onnx", precision="fp32", threads=1, seconds=1, batches=1, known_well=0.1
    )
    graphs = {"a": GraphFolder(folder, "unet", whole=True)}
    agent.device().measure_graphs(GraphOrder(graphs, folder, settings))
    (job,) = agent.jobs.values()
    assert job["graphs"]["a"]["component"] == "unet"
    assert job["reference"]["files"] == job["graphs"]["a"]["files"]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("memory", GateError, "memory: too much"),
        ("timeout", GateError, "timeout: too much"),
        ("input", InputError, "input: too much"),
        ("defect", InputError, "The agent's log says more"),
    ],
)
def test_a_failed_job_says_why(code, kind, said):
    agent = FakeAgent()
    agent.outcome = {"state": "failed", "failure": {"code": code, "message": "too\x1b\nmuch"}}
    with pytest.raises(kind, match="must be able to measure") as found:
        agent.device().check(CheckJob())
    assert said in str(found.value)
    assert str(found.value).isprintable()


def test_a_job_that_its_agent_lost_is_submitted_again():
    agent = FakeAgent()
    agent.faults.append(once("GET", "/v1/jobs", refusal(404, "not_found")))
    assert agent.device().check(CheckJob()).kind == "check"
    assert len(agent.jobs) == 2
    agent.outcome = {"state": "cancelled"}
    with pytest.raises(LostJobError, match="the job was cancelled there"):
        agent.device().check(CheckJob())


def test_evicted_files_are_uploaded_again(folder):
    agent = agent_for_exports()

    def evicts(request):
        if request.method == "PUT" and "/v1/jobs" in request.url.path:
            agent.faults.remove(evicts)
            agent.blobs.clear()
            return refusal(409, "missing_files", missing=["0" * 64])
        return None

    agent.faults.append(evicts)
    device = agent.device()
    device.measure_exports(order(folder))
    assert device.link.sent == 2 * 2562


def test_full_upload_slots_are_waited_for(folder):
    agent = agent_for_exports()
    agent.faults.append(once("PUT", "/v1/blobs", refusal(429, "too_many_requests"), 3))
    device = agent.device()
    device.measure_exports(order(folder))
    assert agent.blobs


def test_a_full_queue_is_waited_for():
    agent = FakeAgent()
    agent.faults.append(once("PUT", "/v1/jobs", refusal(429, "queue_full"), 3))
    assert agent.device().check(CheckJob()).kind == "check"


def test_an_interrupted_wait_cancels_the_job():
    agent = FakeAgent()
    agent.faults.append(once("GET", "/v1/jobs", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        agent.device().check(CheckJob())
    assert agent.asked[-1].startswith("DELETE /v1/jobs/")
    assert not agent.jobs


def test_a_link_that_comes_back_is_used_again():
    agent = FakeAgent()
    agent.faults.append(once("GET", "/v1/jobs", httpx.ConnectError("refused"), 3))
    agent.faults.append(once("GET", "/v1/jobs", httpx.Response(503, text="restarting"), 2))
    assert agent.device().check(CheckJob()).kind == "check"
    assert len(agent.jobs) == 1


def test_an_agent_that_stays_away_is_given_up():
    agent = FakeAgent()
    agent.faults.append(once("GET", "/", httpx.ConnectError("Connection refused"), 10**6))
    with pytest.raises(LostDeviceError, match=r"`pi` must answer at .*Connection refused"):
        agent.device(Patience(silence_s=0.0)).describe()


def failing(cause):
    """What httpx raises of what Python raised."""
    error = httpx.ConnectError(str(cause))
    error.__cause__ = cause
    return error


def tls_error(reason):
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (tls_error("WRONG_VERSION_NUMBER"), "an agent without TLS has an http:// address"),
        (ssl.SSLCertVerificationError("self-signed"), "Give the `fingerprint`"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "No machine of this name"),
    ],
)
def test_what_waiting_does_not_mend_is_not_waited_for(cause, said):
    agent = FakeAgent()
    agent.faults.append(once("GET", "/", failing(cause), 10**6))
    with pytest.raises(LostDeviceError, match=said):
        agent.device(Patience(silence_s=1e6)).describe()
    assert len(agent.asked) == 1
    # Once it has answered, a name that is gone may come back.
    known = FakeAgent()
    device = known.device()
    device.describe()
    known.faults.append(once("GET", "/v1/clock", failing(cause), 2))
    assert device.tick().device == 5


def test_a_silence_is_told_once_and_so_is_its_end():
    said = []
    progress = Silent()
    progress.info = said.append
    agent = FakeAgent()
    device = RemoteDevice(agent.device(Patience(silence_s=1e6)).link, progress)
    agent.faults.append(once("GET", "/", httpx.ConnectError("refused"), 8))
    device.describe()
    assert len(said) == 2
    assert said[0].startswith("device `pi` is silent (refused): trying again for ")
    assert said[1] == "device `pi` answers again"


def test_another_server_is_said_to_be_one():
    agent = FakeAgent()
    agent.faults.append(once("GET", "/v1/hello", refusal(404, "not_found")))
    with pytest.raises(InputError, match="must be an agent of edgekd, but got another server"):
        agent.device().describe()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(200, text="<html>router</html>"), "must be an agent of edgekd"),
        (httpx.Response(404, json={"detail": "no"}), "status 404"),
        (httpx.Response(200, json={"protocols": "all"}), "protocols"),
        (httpx.Response(200, json={"protocols": [1]}), "name"),
        (httpx.Response(200, content=b"[" * 100_000), "must be an agent of edgekd"),
        (httpx.Response(200, content=b"0" * ((1 << 26) + 1)), "more than 67108864 bytes"),
        (httpx.Response(200, json={"protocols": [2, 3]}), "one that speaks 2, 3"),
    ],
    ids=["html", "status", "type", "missing", "deep", "long", "newer"],
)
def test_what_is_no_agent_or_another_ones_is_said_in_one_line(answer, said):
    agent = FakeAgent()
    agent.faults.append(once("GET", "/v1/hello", answer, 2))
    with pytest.raises(InputError, match=said) as found:
        agent.device().describe()
    assert "\n" not in str(found.value)


def test_an_older_agent_is_refused_before_it_is_asked_for_anything():
    agent = FakeAgent(protocols=[0], runtimes="as they were then")
    with pytest.raises(InputError, match="one that speaks 0"):
        agent.device().check(CheckJob())
    assert agent.asked == ["GET /v1/hello"]


def test_a_wrong_token_is_not_repeated_in_the_message():
    agent = FakeAgent()
    agent.token = "another"
    with pytest.raises(RefusedError, match="token of device `pi`") as found:
        agent.device().describe()
    assert "secret" not in str(found.value)
    assert agent.asked == ["GET /v1/hello", "GET /healthz"]


def test_a_result_of_another_kind_is_refused(folder):
    agent = FakeAgent()
    agent.outcome = {"state": "done", "result": CHECK}
    with pytest.raises(InputError, match="one of `check`"):
        agent.device().measure_exports(order(folder))


@pytest.mark.parametrize("rows", [{}, {"other": {}}, {"student": {}, "other": {}}])
def test_a_result_without_a_row_or_with_another_is_refused(folder, rows):
    agent = FakeAgent()
    agent.outcome = {"state": "done", "result": {**EXPORT, "rows": rows}}
    with pytest.raises(InputError, match="must answer for what it is asked, and for all of it"):
        agent.device().measure_exports(order(folder))


def test_words_of_an_agent_stay_on_their_line(folder):
    """They end in terminals: no escape sequence, no line of their own."""
    agent = agent_for_exports(device_class="a\n\x1b[2Jclass")
    agent.outcome["result"]["rows"] = {"student": {"failure": "no\x1b[31m\nmodel"}}
    device = agent.device()
    assert device.describe().device_class == "a [2Jclass"
    assert device.measure_exports(order(folder)).rows["student"].failure == "no [31m model"


def test_the_clock_is_read_between_two_readings_of_the_hosts():
    tick = FakeAgent().device().tick()
    assert tick.device == 5
    assert tick.before <= tick.after
