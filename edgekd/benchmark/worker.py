"""A process that draws and times; run as `python -m edgekd.benchmark.worker` by `workers.py`.

One JSON request per line on stdin, one JSON reply per line on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

from edgekd.benchmark.tasks import Worker
from edgekd.errors import EdgekdError


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request; errors become replies too."""
    handlers = {"draw": worker.draw, "speed": worker.speed}
    try:
        return {"result": handlers[request["operation"]](request)}
    except EdgekdError as error:
        arguments = [error.rule, error.found, error.fix]
        return {"error": type(error).__name__, "arguments": arguments}
    except Exception:
        return {"error": "crash", "arguments": [traceback.format_exc()]}


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C is the parent's business: it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the replies
    worker = Worker()
    for line in sys.stdin:
        replies.write(json.dumps(answer(worker, json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
