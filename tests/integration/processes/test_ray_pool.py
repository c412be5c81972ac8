"""Work on a cluster: the same results and errors as from a child, and what becomes of a loss."""

import os
import signal
import socket
import sys
import time
from concurrent.futures import Future

import pytest
from fixtures.clusters import die, die_once, ray_processes

from edgekd.errors import EdgekdError, InputError, LostError
from edgekd.processes import ray_pool
from edgekd.processes.child import Child, ChildError
from edgekd.processes.pool import each, ordered_map
from edgekd.processes.ray_pool import Share
from edgekd.processes.ray_start import LOCAL, open_cluster
from edgekd.serve.settings import parse_bytes

pytestmark = pytest.mark.xdist_group("ray")


def test_every_call_is_answered_once_and_in_order(cluster):
    with cluster.pool("try") as pool:
        assert sorted(each(pool, abs, range(-20, 0))) == [(n, -n) for n in range(-20, 0)]
        assert list(ordered_map(pool, abs, ((n, -n) for n in range(9)), 3)) == [
            (n, n) for n in range(9)
        ]
        large = bytes(range(256)) * 2**14
        assert pool.submit(bytes.upper, large).result() == large.upper()
        assert pool.submit(os.getcwd).result() == os.getcwd()
        assert pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() == ""


@pytest.mark.parametrize(
    ("function", "argument"),
    [(parse_bytes, "many"), (os.stat, "/not/there"), (int, "x"), (sys.exit, 3)],
)
def test_errors_are_those_of_a_child(cluster, function, argument):
    def error_of(call) -> Exception:
        with pytest.raises((EdgekdError, OSError)) as caught:
            call()
        return caught.value

    with Child("try") as child, cluster.pool("try") as pool:
        expected = error_of(lambda: child.call(function, argument))
        found = error_of(lambda: pool.submit(function, argument).result())
    assert type(found) is type(expected)
    if function is not sys.exit:  # the end of a worker is Ray's to describe
        assert str(found) == str(expected)


def test_the_work_of_a_killed_worker_is_done_again_without_a_word(cluster, tmp_path, capfd):
    with cluster.pool("try") as pool:
        rest = [pool.submit(abs, -n) for n in range(4)]
        assert pool.submit(die_once, tmp_path / "mark").result() > 0
        assert [one.result() for one in rest] == list(range(4))
    assert capfd.readouterr() == ("", "")


def test_work_that_kills_every_worker_ends_in_one_error(cluster):
    with (
        cluster.pool("try") as pool,
        pytest.raises(ChildError, match=r"must live to the end of its work, but got \w*Crashed"),
    ):
        pool.submit(die).result()


def test_leaving_stops_what_is_under_way(cluster, tmp_path):
    with cluster.pool("try") as pool:
        for _ in range(2):
            pool.submit(time.sleep, 600)
    with cluster.pool("try") as pool:
        assert pool.submit(abs, -1).result(timeout=120) == 1


def test_a_share_that_no_machine_has_is_cut_to_the_largest(cluster):
    assert cluster.cores == 2
    with cluster.pool("try", Share(64, 2**60)) as pool:
        assert pool.share.threads == 2
        assert pool.submit(abs, -1).result() == 1


def test_every_machine_must_have_this_code_and_see_the_folder(cluster, tmp_path, monkeypatch):
    cluster.check(tmp_path)
    with pytest.raises(InputError, match=r"must see the run folder.*no .*/gone at"):
        cluster.check(tmp_path / "gone")
    monkeypatch.setattr(ray_pool, "code_key", lambda: "other")
    with pytest.raises(InputError, match="must have the same edgekd as this one, but got another"):
        cluster.check(tmp_path)


def test_a_lost_head_fails_what_waits_and_what_comes(cluster, monkeypatch):
    """On an address where nobody listens: the head itself is killed in `test_on_a_cluster`."""
    monkeypatch.setattr(ray_pool, "_LOST_AFTER_S", 0.2)
    monkeypatch.setattr(ray_pool, "_LOOK_EVERY_S", 0.05)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        head = f"127.0.0.1:{free.getsockname()[1]}"
    lost = object.__new__(ray_pool.Cluster)
    lost.__dict__.update({**cluster.__dict__, "_head": head, "_waiting": set(), "_lost": None})
    waiting: Future[int] = Future()
    lost._waiting.add(waiting)
    lost._watch()
    for call in (lambda: waiting.result(0), lambda: lost.pool("try").submit(abs, -1)):
        with pytest.raises(LostError, match=f"no answer from {head}. Finished work is kept"):
            call()


def test_the_signal_handler_stays(cluster):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9", "no-such-host.invalid:1", "ray://x"])
def test_a_cluster_that_is_not_there(address):
    with (
        pytest.raises(InputError, match=r"`--ray` must name a running Ray cluster") as caught,
        open_cluster(address, 1),
    ):
        pass
    assert address in str(caught.value)


def test_without_ray_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"Run `pip install 'edgekd\[ray\]'`"),
        open_cluster(LOCAL, 1),
    ):
        pass


def test_a_cluster_of_ones_own_lets_nobody_in_without_its_token(cluster):
    """Its ports are open to the network."""
    assert cluster.cores == 2
    heads = ray_processes(os.getpid(), "gcs_server")
    found = [(one.environ()["RAY_AUTH_MODE"], one.environ()["RAY_AUTH_TOKEN"]) for one in heads]
    assert found == [("token", os.environ["RAY_AUTH_TOKEN"])]
    assert len(found[0][1]) == 64


def test_a_cluster_leaves_the_environment_of_later_processes_alone(cluster):
    everything = os.pathsep.join(path or os.getcwd() for path in sys.path)
    assert cluster.cores == 2
    assert os.environ.get("PYTHONPATH") != everything
