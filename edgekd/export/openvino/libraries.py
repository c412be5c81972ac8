"""Import openvino and nncf through here: quiet, and without calls to a statistics server.

openvino's converter and nncf report their use to Google Analytics where the user has not
declined. An export sends nothing, so the answer is given here, before either asks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Iterator


def _decline_telemetry() -> None:
    if importlib.util.find_spec("openvino_telemetry") is None:
        return
    from openvino_telemetry.utils import opt_in_checker

    declined = opt_in_checker.ConsentCheckResult.DECLINED
    opt_in_checker.OptInChecker.check = lambda *_, **__: declined


_decline_telemetry()

# edgekd's own guard first: nncf and optimum import transformers.
from edgekd.libraries import transformers  # noqa: E402, I001

import nncf  # noqa: E402
import openvino  # noqa: E402

__all__ = ["nncf", "openvino", "quiet", "transformers"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back nncf's progress bars and tables: stdout belongs to the command's own answer."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
