"""Where a study is kept: an SQLite file, or a database server that several hosts share.

What a user can get wrong here ends in one line, in which no password stands.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from edgekd.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_LOCK_SECONDS = 20.0  # that SQLite waits for another process before it gives up
_CONNECT_SECONDS = 10
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.5  # while another process makes the tables
_MAX_REASON = 300  # letters of a database's answer that a message quotes
# Parts of a URL that are nobody's business: what follows the user's name, and options.
_PASSWORD = re.compile(r"^((?:[^:/]+://)?[^:]*):(?!//)(.*)@")
_OPTION = re.compile(r"([?&](?:ssl)?passw(?:or)?d)=([^&]*)", re.IGNORECASE)


def sqlite_url(path: Path) -> str:
    """URL of a database file."""
    return f"sqlite:///{path.absolute()}"


def masked(url: str) -> str:
    """A storage's URL without its secrets, fit to be printed."""
    return _OPTION.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", url))


def is_file(url: str) -> bool:
    """Whether one process alone keeps its study there."""
    return url.partition(":")[0].partition("+")[0] == "sqlite"


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a database may answer into one line.

    Raises:
        InputError: nobody answers there, or the file is locked, damaged or no database.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        raise InputError(
            "the storage of a study must be a database that answers",
            _told(url, cause or error),
            _way_out(url),
        ) from None


@contextlib.contextmanager
def _opening(url: str) -> Iterator[None]:
    """As `storage_errors`, with what can only be wrong with the URL itself."""
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    with storage_errors(url):
        try:
            yield
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise InputError(
                "the storage of a study must be a database URL of SQLAlchemy",
                _told(url, error),
                "Write `postgresql+psycopg://user:password@host/database`, for one.",
            ) from None
        except ImportError as error:
            raise InputError(
                "the driver of the study's storage must be installed",
                _told(url, error),
                "For PostgreSQL: `pip install psycopg[binary]`, and `postgresql+psycopg://`.",
            ) from None
        except RuntimeError as error:  # of Optuna: the tables are of another version
            raise InputError(
                "the storage of a study must be of this version of Optuna", _told(url, error)
            ) from None


def _way_out(url: str) -> str:
    if is_file(url):
        return "Wait for the process that holds it, or move the file away to begin anew."
    return "Check host, port, user and database."


def _told(url: str, error: BaseException) -> str:
    """The place and the first line of what was said of it, without secrets."""
    reason = getattr(error, "orig", None) or error.__cause__ or error
    lines = str(reason).strip().splitlines()
    text = lines[0] if lines else type(reason).__name__
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return f"{masked(url)} ({text[:_MAX_REASON]})"


def _secrets(url: str) -> list[str]:
    """Everything that `masked` hides, as it is written and as it is meant; longest first."""
    found = [match[2] for pattern in (_PASSWORD, _OPTION) for match in pattern.finditer(url)]
    return sorted({*found, *map(unquote, found)} - {""}, key=len, reverse=True)


def open_storage(url: str) -> BaseStorage:
    """Connect to a storage; its tables are made where there are none.

    Raises:
        InputError: the URL is none, its driver is missing, or the tables are of another version
            of Optuna; see `storage_errors` for the rest.
    """
    arguments: dict[str, Any] = {}
    if is_file(url):
        arguments = {"timeout": _LOCK_SECONDS}
    elif url.startswith("postgresql"):
        arguments = {"connect_timeout": _CONNECT_SECONDS}
    with _opening(url):
        return _connect(url, arguments)


def _connect(url: str, arguments: dict[str, Any]) -> BaseStorage:
    """Connect. Where another process makes the same tables meanwhile, one of the two is told off.

    Neither `CREATE TABLE` of a database nor what Optuna does around it waits for the other.
    """
    from optuna.storages import RDBStorage, get_storage
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(IntegrityError, ProgrammingError):
            return get_storage(RDBStorage(url, {"connect_args": arguments}))
        time.sleep(_PAUSE_SECONDS)
    return get_storage(RDBStorage(url, {"connect_args": arguments}))


def check_storage(url: str) -> None:
    """Find out before any work whether a storage can be had.

    Raises:
        InputError: see `storage_errors`.
    """
    with storage_errors(url):
        close_storage(open_storage(url))


def close_storage(storage: BaseStorage) -> None:
    """Give connections and files back."""
    from optuna.storages import RDBStorage

    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, RDBStorage):
        backend.scoped_session.remove()
        backend.engine.dispose()
