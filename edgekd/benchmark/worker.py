"""A process that draws and times; run as `python -m edgekd.benchmark.worker` by `workers.py`.

One JSON request per line on stdin, one JSON reply per line on stdout. The
last subject stays loaded, so that requests sorted by subject load each once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from edgekd.benchmark.cache import write_tensors
from edgekd.benchmark.generate import draw, set_scheduler
from edgekd.benchmark.speed import measure_speed
from edgekd.benchmark.subjects import Subject, open_pipeline
from edgekd.benchmark.suite import GenerationSection, SpeedSection
from edgekd.errors import EdgekdError


class Worker:
    """Answers requests; `threads` are those of every runtime while it draws."""

    def __init__(self) -> None:
        self._loaded: tuple[str, int] | None = None
        self._pipeline: Any = None

    def draw(self, request: dict[str, Any]) -> dict[str, Any]:
        """Draw one batch and write it to `request["out"]`."""
        subject = Subject.from_dict(request["subject"])
        pipeline = self._open(subject, request["threads"])
        generation = GenerationSection.model_validate(request["generation"])
        set_scheduler(pipeline, generation.scheduler)
        images = draw(
            pipeline,
            request["captions"],
            request["indices"],
            generation,
            request["resolution"],
            request["seed"],
        )
        write_tensors(Path(request["out"]), {"images": images})
        return {}

    def speed(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time all subjects of the request; see `measure_speed`."""
        self._loaded, self._pipeline = None, None
        speed = SpeedSection.model_validate(request["speed"])
        subjects = [Subject.from_dict(values) for values in request["subjects"]]
        return measure_speed(
            {subject.name: open_pipeline(subject, speed.threads) for subject in subjects},
            request["caption"],
            GenerationSection.model_validate(request["generation"]),
            speed,
            request["resolution"],
        )

    def _open(self, subject: Subject, threads: int) -> Any:
        wanted = (str(subject.path), threads)
        if self._loaded != wanted:
            self._loaded, self._pipeline = None, None  # free the old one before loading
            self._pipeline = open_pipeline(subject, threads)
            self._loaded = wanted
        return self._pipeline


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
