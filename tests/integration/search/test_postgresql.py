"""Several processes share one study in a database server."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from fixtures.studies import SCORING, study_plan

from edgekd.errors import InputError
from edgekd.search.storage import masked
from edgekd.search.study import StudyBudget, run_study

TESTS = Path(__file__).parents[2]
PASSWORD = "nobody-knows"


def _tools() -> Path | None:
    """Folder of `initdb` and `pg_ctl`: Debian keeps them off the path."""
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in places if (place / "initdb").is_file()), None)


def _as_user(folder: Path) -> list[str]:
    """In front of a command: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of a server of this test's own."""
    tools = _tools()
    if tools is None:
        pytest.skip("PostgreSQL is not installed: a study in it cannot be tried")
    # Not in pytest's folder: the user that the server runs as may not enter that.
    with tempfile.TemporaryDirectory(prefix="edgekd-postgresql-") as name:
        folder, port = Path(name), _free_port()
        (folder / "password").write_text(PASSWORD)
        user = _as_user(folder)
        data, log = str(folder / "data"), str(folder / "log")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' "

        def run(*command: str) -> None:
            done = subprocess.run(
                [*user, *command], cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

        run(
            str(tools / "initdb"), "-D", data, "-U", "edgekd", "-A", "scram-sha-256",
            f"--pwfile={folder / 'password'}", "--no-sync",
        )  # fmt: skip
        control = str(tools / "pg_ctl")
        run(control, "-D", data, "-l", log, "-w", "-o", options + "-c fsync=off", "start")
        try:
            yield f"postgresql+psycopg://edgekd:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run(control, "-D", data, "-m", "immediate", "stop")


def test_two_processes_share_a_study(server):
    plan = study_plan(server, sampler="tpe")
    command = [sys.executable, "-m", "fixtures.study_child", server, "tpe", "16"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(subprocess.Popen(command, env=environment)) for _ in range(2)
        ]
        for child in children:
            stack.callback(child.kill)  # runs before the child is waited for
        assert [child.wait(timeout=300) for child in children] == [0, 0]
    outcome = run_study(plan, SCORING, StudyBudget(0, 16, 600))
    assert outcome.candidates == 0  # it is all there
    trials = optuna.load_study(study_name=outcome.study_name, storage=server).trials
    assert [trial.number for trial in trials] == list(range(outcome.trials))
    sampled = [trial for trial in trials if trial.user_attrs["origin"] == "sampler"]
    assert 16 <= len(sampled) <= 17  # both may have begun the last one
    workers = {trial.user_attrs["worker"] for trial in sampled}
    assert len(workers) == 2
    # They do not repeat one another.
    first, second = (
        [trial.params for trial in sampled if trial.user_attrs["worker"] == worker]
        for worker in sorted(workers)
    )
    assert first[: len(second)] != second[: len(first)]
    assert outcome.storage == masked(server) != server


def test_a_wrong_password_is_one_line_without_it(server):
    url = server.replace(PASSWORD, "wrong-secret")
    with pytest.raises(InputError, match="password authentication failed") as error:
        run_study(study_plan(url), SCORING, StudyBudget(0, 1, 600))
    assert "wrong-secret" not in "".join(traceback.format_exception(error.value))
    assert len(str(error.value).splitlines()) == 1
