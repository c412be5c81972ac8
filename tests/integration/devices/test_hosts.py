"""Hosts and agents as processes of their own, over whole and broken links."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fixtures.agents import DRAWING, ROOT, Agent, measuring_agent
from fixtures.exported import write_export
from fixtures.links import Quality, namespaces_allowed, proxied, two_hosts

from edgekd.devices.client import RemoteDevice
from edgekd.devices.link import IMPATIENT, Link, LostDeviceError, RefusedError
from edgekd.devices.listing import Entry, add_entry
from edgekd.devices.orders import CheckJob, ExportSettings, PictureSettings, SpeedSettings
from edgekd.devices.pinned import OtherCertificateError
from edgekd.devices.protocol import ExportFolder, ExportOrder
from edgekd.jobs.device_listing import add_device
from edgekd.jobs.devices import list_devices

pytestmark = pytest.mark.xdist_group("hosts")
_BALLAST = 3_000_000  # bytes


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with measuring_agent(tmp_path_factory.mktemp("one"), "--name", "One", "--threads", "1") as one:
        yield one


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("export") / "student")


@pytest.fixture(scope="module")
def heavy(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("export") / "heavy", ballast=_BALLAST)


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("export") / "slow", slow=4)


def order(folder: Path, image_runs: int = 3) -> ExportOrder:
    speed = SpeedSettings(warmup=1, component_runs=2, image_runs=image_runs, busy_repeats=0)
    rows = {"student": ExportFolder(folder, PictureSettings.model_validate(DRAWING))}
    return ExportOrder(rows, ExportSettings(threads=1, speed=speed))


def entry(agent: Agent, address: str = "", **changes: str) -> Entry:
    values = {"address": address or agent.address, "token": agent.token, **changes}
    if agent.fingerprint:
        values.setdefault("fingerprint", agent.fingerprint)
    return Entry.model_validate(values)


def port_of(agent: Agent) -> int:
    return urlsplit(agent.address).port or 0


def requests(agent: Agent, method: str, route: str) -> int:
    lines = agent.log_file.read_text(encoding="utf-8").splitlines()
    return sum(f'"method": "{method}", "route": "{route}' in line for line in lines)


def test_the_line_of_an_agent_is_a_device(agent, tmp_path):
    file = tmp_path / "devices.yaml"
    added = add_device(agent.line, None, file)
    assert (added.name, added.path) == ("one", file)
    assert "onnx" in added.found.runs
    add_entry(file, "gone", {"address": "http://127.0.0.1:9", "token": "abcdefgh"})
    local, one, gone = list_devices(file)
    assert (local.name, local.device_class) == ("local", "local")
    assert one.problem is None
    assert "onnx" in one.runs
    assert (one.threads, one.cpu) == (1, local.cpu)
    assert "Connection refused" in gone.problem


def test_a_known_model_is_measured_again_without_an_upload(agent, export):
    with Link("one", entry(agent)) as link:
        device = RemoteDevice(link)
        first = device.measure_exports(order(export))
        sent = link.sent
        assert sent == sum(
            path.stat().st_size
            for path in export.rglob("*")
            if path.is_file() and path.name not in ("README.md", "artifact.json")
        )
        again = device.measure_exports(order(export, image_runs=4))
        assert link.sent == sent
    assert [len(one.rows["student"].timings["image"].samples_ms) for one in (first, again)] == [
        3, 4,
    ]  # fmt: skip


def test_a_clock_is_read_in_time(agent):
    with Link("one", entry(agent)) as link:
        device = RemoteDevice(link)
        first, last = device.tick(), device.tick()
    assert first.before <= first.device <= first.after <= last.device  # one clock on one machine


def test_a_stranger_is_refused(agent, export):
    with (
        Link("one", entry(agent, token="another-token")) as link,
        pytest.raises(RefusedError, match="token of device `one`"),
    ):
        RemoteDevice(link).describe()
    with Link("one", entry(agent)) as link:
        device = RemoteDevice(link)
        device.describe()
        link.protocol = 7
        with pytest.raises(RefusedError, match="protocol"):
            device.tick()


def test_another_certificate_gets_neither_token_nor_model(tmp_path):
    with measuring_agent(tmp_path, "--host", "0.0.0.0") as agent:
        address = f"https://127.0.0.1:{port_of(agent)}"
        with Link("one", entry(agent, address)) as link:
            assert RemoteDevice(link).describe().protocols == (1,)
        before = requests(agent, "GET", "/v1/hello")
        wrong = entry(agent, address, fingerprint="ab" * 32)
        with (
            Link("one", wrong) as link,
            pytest.raises(OtherCertificateError, match=agent.fingerprint),
        ):
            RemoteDevice(link).describe()
        unknown = Entry(address=address, token=agent.token)
        with (
            Link("one", unknown, IMPATIENT) as link,
            pytest.raises(LostDeviceError, match="certificate"),
        ):
            RemoteDevice(link).describe()
        assert requests(agent, "GET", "/v1/hello") == before


def test_an_upload_goes_on_after_a_cut(agent, heavy):
    with proxied("127.0.0.1", port_of(agent)) as proxy:
        proxy.delay_s = 0.001
        proxy.cut_at = _BALLAST // 2

        def restore():
            while not proxy.down:
                time.sleep(0.01)
            time.sleep(0.5)
            proxy.restore()

        helper = threading.Thread(target=restore, daemon=True)
        helper.start()
        with Link("one", entry(agent, f"http://127.0.0.1:{proxy.port}")) as link:
            found = RemoteDevice(link).measure_exports(order(heavy))
        helper.join()
        assert found.rows["student"].failure is None
        # The chunk that was cut went up twice, in part, and what came before did not.
        assert link.sent > _BALLAST
        assert 0 < proxy.up - link.sent < _BALLAST // 2


HOST = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from edgekd.devices.client import RemoteDevice
    from edgekd.devices.link import Link
    from edgekd.devices.listing import Entry
    from edgekd.devices.orders import ExportSettings, PictureSettings, SpeedSettings
    from edgekd.devices.protocol import ExportFolder, ExportOrder
    drawing = PictureSettings.model_validate_json(sys.argv[4])
    speed = SpeedSettings(warmup=1, component_runs=2, image_runs=9999, busy_repeats=0)
    order = ExportOrder({"a": ExportFolder(Path(sys.argv[3]), drawing)},
                        ExportSettings(threads=1, speed=speed))
    with Link("one", Entry(address=sys.argv[1], token=sys.argv[2])) as link:
        RemoteDevice(link).measure_exports(order)
    """
)


def host(agent: Agent, export: Path) -> subprocess.Popen[bytes]:
    """A host whose job does not end; returns when it runs."""
    drawing = PictureSettings.model_validate(DRAWING).model_dump_json()
    words = [agent.address, agent.token, str(export), drawing]
    before = len(agent.children())
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while len(agent.children()) <= before and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_host_that_ends_frees_its_agent(end, slow, tmp_path):
    lease = "3" if end == signal.SIGKILL else "100"
    with measuring_agent(tmp_path, "--lease", lease) as agent:
        process = host(agent, slow)
        try:
            process.send_signal(end)
            process.wait(30)
            with Link("one", entry(agent)) as link:
                assert RemoteDevice(link).check(CheckJob(runs=1)).kind == "check"
            assert agent.children() == []
        finally:
            process.kill()
            process.wait()


def test_an_agent_that_is_started_anew_does_its_job_again(slow, tmp_path):
    with measuring_agent(tmp_path / "a") as first:
        found = []
        with Link("one", entry(first)) as link:
            device = RemoteDevice(link)
            work = threading.Thread(
                target=lambda: found.append(device.measure_exports(order(slow, 20))), daemon=True
            )
            work.start()
            until = time.monotonic() + 60
            while not first.children() and time.monotonic() < until:
                time.sleep(0.02)
            sent = link.sent
            first.close()
            with measuring_agent(tmp_path / "a", "--port", str(port_of(first))):
                work.join(60)
            assert found[0].rows["student"].failure is None
            assert link.sent == sent  # the files were still there


@pytest.mark.skipif(
    not namespaces_allowed(), reason="needs the right to make network namespaces and TUN devices"
)
def test_a_far_device_over_a_bad_link(heavy, tmp_path):
    """50 ms each way, 1 % of all packets lost, 10 Mbit/s."""
    bad = Quality(delay_s=0.05, loss=0.01, bits_per_s=10e6)
    with two_hosts(bad) as (here, there, counts):
        with there.inside():
            agent = Agent(tmp_path, "--host", "0.0.0.0")
        try:
            address = f"https://{there.address}:{port_of(agent)}"
            with here.inside(), Link("far", entry(agent, address)) as link:
                device = RemoteDevice(link)
                started = time.monotonic()
                found = device.measure_exports(order(heavy, image_runs=10))
                assert time.monotonic() - started > 8 * _BALLAST / bad.bits_per_s
                sent = link.sent
                device.measure_exports(order(heavy, image_runs=11))
                assert link.sent == sent
        finally:
            agent.close()
    passed, lost = counts
    assert lost > 0
    assert passed * 1500 > _BALLAST
    # The way to the device and back is 100 ms; it is not in a picture's time.
    assert min(found.rows["student"].timings["image"].samples_ms) < 100
