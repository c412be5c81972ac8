"""coremltools, imported and used without its output.

It logs every missing Apple library when imported, an untested torch version, and a progress bar
per pass: nothing a user of edgekd can act on. What goes wrong is raised.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back whatever is printed, logged or warned of in this block."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with _silent():
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def converting() -> Iterator[None]:
    """As `quiet`; besides, coremltools does not search a whole program for mistakes of its own
    after each of a hundred passes, a third of the time of an export: parity judges the end."""
    from coremltools.converters.mil.mil import Program

    validate = Program.validate
    with quiet():
        Program.validate = lambda *_, **__: None
        try:
            yield
        finally:
            Program.validate = validate


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


with quiet():
    import coremltools

# Its handler writes to the stream of the import, which nobody reads any more.
logging.getLogger("coremltools").setLevel(logging.ERROR)

__all__ = ["converting", "coremltools", "quiet"]
