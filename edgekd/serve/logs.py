"""One line of JSON for each event, on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

log = logging.getLogger("edgekd.serve")


class JsonFormatter(logging.Formatter):
    """time, level, logger, event, and the fields that a call gave as `extra={"fields": …}`.

    Errors come with where they happened, without their text: it may quote a prompt.

    Args:
        shown: what the logger of requests is called.
    """

    def __init__(self, shown: str = log.name) -> None:
        super().__init__()
        self._shown = shown

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": self._shown if record.name == log.name else record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line)


def event(name: str, level: int = logging.INFO, **fields: object) -> None:
    """Log an event with its fields."""
    log.log(level, name, extra={"fields": fields})


def set_up(log_prompts: bool, shown: str = log.name) -> None:
    """Every logger of this process writes JSON lines; `shown`: see `JsonFormatter`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(shown))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    log.setLevel(logging.INFO)
    if not log_prompts:  # it quotes prompts that are too long
        logging.getLogger("edgekd.runtime").setLevel(logging.ERROR)
