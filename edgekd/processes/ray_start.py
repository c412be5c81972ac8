"""Connecting to a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil

from edgekd.errors import InputError
from edgekd.processes.ray_pool import CONNECT_S, HEAD, Cluster
from edgekd.processes.scratch import scratch_folder

LOCAL, AUTO = "local", "auto"
_STARTS = 3  # of a local cluster
# What is on its way to a worker and back, of the largest calls.
_STORE_BYTES_PER_CORE, _LEAST_STORE_BYTES = 64 * 2**20, 128 * 2**20


def is_address(text: str) -> bool:
    """Whether a word names a cluster: `local`, `auto` or `HOST:PORT`."""
    return text in (LOCAL, AUTO) or HEAD.fullmatch(text) is not None


@contextlib.contextmanager
def open_cluster(address: str, cores: int) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine.

    Args:
        address: `local`; `auto`, the cluster that this machine is part of; or `HOST:PORT`, its
            head.
        cores: workers of a local cluster.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    if address == LOCAL:
        _lock_out_others()
    ray = _import_ray()
    with contextlib.ExitStack() as stack:
        if address == LOCAL:
            store = max(_LEAST_STORE_BYTES, cores * _STORE_BYTES_PER_CORE)
            options: dict[str, Any] = {
                "address": LOCAL,
                "num_cpus": cores,
                "object_store_memory": store,
                "include_dashboard": False,
                "_temp_dir": str(stack.enter_context(scratch_folder())),
            }
        else:
            _check_head(address)
            options = {"address": address}
        _hush(ray)
        with _own_signals(), _search_path():
            own = _connect(ray, {**options, "log_to_driver": False, "logging_level": "ERROR"})
        cluster = Cluster(ray)
        stack.callback(_end, cluster, own)
        yield cluster


def _end(cluster: Cluster, own: set[psutil.Process]) -> None:
    """Leave a cluster; of one that was started here no process stays, though its head was lost."""
    below = set(own)
    for process in own:
        with contextlib.suppress(psutil.Error):
            below |= set(process.children(recursive=True))
    cluster.close()
    for process in below:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _connect(ray: Any, options: dict[str, Any]) -> set[psutil.Process]:
    """Ray gives the processes of a local cluster half a minute, which is little on a busy machine:
    they get it again.

    Returns:
        the processes of a local cluster that are this one's children.

    Raises:
        InputError: there is no such cluster, or none can be started.
    """
    own = options["address"] == LOCAL
    before = set(psutil.Process().children())
    for left in reversed(range(_STARTS if own else 1)):
        try:
            ray.init(**options)
            return set(psutil.Process().children()) - before
        except Exception as error:  # Ray has none of its own for this
            ray.shutdown()
            for process in set(psutil.Process().children()) - before:
                process.kill()
            reason = str(error).strip().partition("\n")[0]
            if own and not left:
                raise InputError("a local Ray cluster must start here", reason) from None
            if not own:
                raise _no_cluster(options["address"], reason) from None
    raise AssertionError("the last start has raised")


def _lock_out_others() -> None:
    """Ray's ports are open to the network, and whoever is let in can run programs here: a token of
    this process alone stands before them. Ray's own would lie in a file that all users may read.

    A Ray that is imported already has chosen whether it asks for one; newer ones do.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _import_ray() -> Any:
    # Ray would tell its makers of each cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its workers would stand behind everything else on this machine, where children do not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise InputError(
            "`--ray` needs Ray", "no package ray", "Run `pip install 'edgekd[ray]'`."
        ) from None
    return ray


def _check_head(address: str) -> None:
    """Ray itself would look for a head for a long time."""
    if address == AUTO:
        return
    match = HEAD.fullmatch(address)
    if match is None:
        raise _no_cluster(address, "neither `local`, `auto` nor HOST:PORT")
    try:
        socket.create_connection((match["host"], int(match["port"])), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, getattr(error, "strerror", None) or str(error)) from None


def _no_cluster(address: str, reason: str) -> InputError:
    return InputError(
        "`--ray` must name a running Ray cluster that this machine is part of",
        f"{address} ({reason})",
        "Run `ray start --address=HOST:PORT` here first, or `--ray` alone for a local cluster.",
    )


def _hush(ray: Any) -> None:
    """Ray prints pages about each lost worker, whatever is asked of it, and on stdout, where verbs
    print their results. It says nowhere how to have it quiet."""
    worker: Any = ray._private.worker
    worker.print_to_stdstream = lambda *_, **__: None


@contextlib.contextmanager
def _search_path() -> Iterator[None]:
    """Workers of a local cluster that starts meanwhile find the very modules that this process
    has."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of this process's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
