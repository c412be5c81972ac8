"""Where a study is kept: an SQLite file, or a database server that several hosts share.

What a user can get wrong here ends in one line, in which no password stands.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from edgekd.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_LOCK_SECONDS = 20.0  # that SQLite waits for another process before it gives up
_CONNECT_SECONDS = 10
# Parts of a URL that are nobody's business: `user:password@`, and secrets given as options.
_PASSWORD = re.compile(r"(?<=:)[^:@]+(?=@[^@]*$)")
_OPTION = re.compile(r"(?<=[?&])((?:ssl)?passw(?:or)?d|passfile)=[^&]*", re.IGNORECASE)


def sqlite_url(path: Path) -> str:
    """URL of a database file."""
    return f"sqlite:///{path.absolute()}"


def masked(url: str) -> str:
    """A storage's URL without its secrets, fit to be printed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    hidden = _PASSWORD.sub("***", rest) if not scheme.startswith("sqlite") else rest
    hidden = _OPTION.sub(r"\1=***", hidden)
    return f"{scheme}://{hidden}"


def is_file(url: str) -> bool:
    """Whether one process alone keeps its study there."""
    return url.partition(":")[0].partition("+")[0] == "sqlite"


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a database may answer into one line.

    Raises:
        InputError: the URL is none, its driver is missing, nobody answers there, the file is
            locked, damaged or no database, or it was made by another version of Optuna.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy import exc

    try:
        yield
    except (exc.ArgumentError, exc.NoSuchModuleError) as error:
        raise InputError(
            "the storage of a study must be a database URL of SQLAlchemy",
            _told(url, error),
            "Write `postgresql+psycopg://user:password@host/database`, for one.",
        ) from None
    except ImportError as error:
        raise InputError(
            "the driver of the study's storage must be installed",
            _told(url, error),
            "For PostgreSQL: `pip install psycopg[binary]`, and `postgresql+psycopg://` in front.",
        ) from None
    except (exc.SQLAlchemyError, StorageInternalError) as error:
        raise InputError(
            "the storage of a study must be a database that answers",
            _told(url, error.__cause__ if isinstance(error, StorageInternalError) else error),
            _way_out(url),
        ) from None
    except RuntimeError as error:
        if "optuna" not in str(error).lower():
            raise
        raise InputError(
            "the storage of a study must be of this version of Optuna", _told(url, error)
        ) from None


def _way_out(url: str) -> str:
    if is_file(url):
        return "Wait for the process that holds it, or move the file away to begin anew."
    return "Check host, port, user and database."


def _told(url: str, error: BaseException | None) -> str:
    """The place and the first line of what was said of it, without secrets."""
    reason = getattr(error, "orig", None) or error
    lines = str(reason).strip().splitlines()
    text = lines[0] if lines else type(reason).__name__
    for secret in _secrets(url):
        text = text.replace(secret, "***")
    return f"{masked(url)} ({text[:300]})"


def _secrets(url: str) -> list[str]:
    """Everything that `masked` hides, as it is written and as it is meant."""
    rest = url.partition("://")[2]
    found = [match[0] for match in _PASSWORD.finditer(rest)]
    found += [match[0].partition("=")[2] for match in _OPTION.finditer(rest)]
    return sorted({url, *found, *map(unquote, found)} - {""}, key=len, reverse=True)


def open_storage(url: str) -> BaseStorage:
    """Connect to a storage; its tables are made where there are none.

    Raises:
        InputError: see `storage_errors`.
    """
    from optuna.storages import RDBStorage, get_storage

    arguments: dict[str, Any] = {}
    if is_file(url):
        arguments = {"timeout": _LOCK_SECONDS}
    elif url.startswith("postgresql"):
        arguments = {"connect_timeout": _CONNECT_SECONDS}
    with storage_errors(url):
        return get_storage(RDBStorage(url, {"connect_args": arguments}))


def close_storage(storage: BaseStorage) -> None:
    """Give connections and files back."""
    from optuna.storages import RDBStorage

    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, RDBStorage):
        backend.scoped_session.remove()
        backend.engine.dispose()
