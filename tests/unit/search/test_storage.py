import sqlite3
import traceback

import pytest
from fixtures.studies import SCORING, study_plan

from edgekd.errors import InputError
from edgekd.search import storage
from edgekd.search.storage import close_storage, masked, open_storage, sqlite_url
from edgekd.search.study import StudyBudget, run_study

SECRET = "geheim:%40/x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:geheim@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        (f"postgresql+psycopg://me:{SECRET}@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql://me:ge@heim@host/db", "postgresql://me:***@host/db"),
        ("postgresql:me:geheim@host", "postgresql:***@host"),
        ("postgresql://host/db?user=me&password=geheim&a=1", "postgresql://host/db?user=me&password=***&a=1"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:////folder/study.sqlite", "sqlite:////folder/study.sqlite"),
    ],
)  # fmt: skip
def test_no_password_is_shown(url, shown):
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("a word", "must be a database URL of SQLAlchemy"),
        ("nothing://me:geheim@host/db", "must be a database URL of SQLAlchemy"),
        ("postgresql+psycopg://me:geheim@host:port/db", "must be a database URL of SQLAlchemy"),
        ("postgresql+psycopg2://me:geheim@host/db", "the driver of the study's storage must be in"),
        ("postgresql+psycopg://me:geheim@127.0.0.1:1/db", "must be a database that answers"),
        ("postgresql+psycopg://127.0.0.1:1/db?password=geheim", "must be a database that answers"),
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(url, rule, capsys, caplog):
    with pytest.raises(InputError, match=rule) as error:
        open_storage(url)
    told = "".join(traceback.format_exception(error.value))
    assert "geheim" not in told + caplog.text + "".join(capsys.readouterr())
    assert len(str(error.value).splitlines()) == 1


def test_a_damaged_file(tmp_path):
    path = tmp_path / "study.sqlite"
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    with pytest.raises(InputError, match=r"must be a database that answers.*study\.sqlite"):
        open_storage(sqlite_url(path))


def test_a_file_that_is_damaged_further_in(tmp_path):
    """The header and the tables' names are whole: only reading the trials shows it."""
    path = tmp_path / "study.sqlite"
    plan = study_plan(sqlite_url(path))
    run_study(plan, SCORING, StudyBudget(0, 1, 600))
    content = path.read_bytes()
    page = int.from_bytes(content[16:18], "big")
    path.write_bytes(content[: 4 * page] + b"\xff" * (len(content) - 4 * page))
    with pytest.raises(InputError, match="must be a database that answers"):
        run_study(plan, SCORING, StudyBudget(0, 2, 600))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="unable to open database file"):
        open_storage(sqlite_url(tmp_path / "none" / "study.sqlite"))


def test_a_file_that_another_process_holds(tmp_path, monkeypatch):
    path = tmp_path / "study.sqlite"
    monkeypatch.setattr(storage, "_LOCK_SECONDS", 0.05)
    with sqlite3.connect(path) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"database is locked.*Wait for the process"):
            open_storage(sqlite_url(path))
        holder.rollback()
    close_storage(open_storage(sqlite_url(path)))


def test_tables_of_another_version(tmp_path):
    path = tmp_path / "study.sqlite"
    close_storage(open_storage(sqlite_url(path)))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE version_info SET schema_version = 99")
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0'")
    with pytest.raises(InputError, match="must be of this version of Optuna"):
        open_storage(sqlite_url(path))
