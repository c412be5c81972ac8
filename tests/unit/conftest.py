"""The inner loop: no test in here starts a process."""

import subprocess
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_process() -> Iterator[None]:
    started = subprocess.Popen.__init__

    def open_process(self: Any, command: Any, *others: Any, **options: Any) -> None:
        if command[0] != "uname":  # `platform` asks it for the processor's name
            refuse()
        started(self, command, *others, **options)

    def refuse(*_: Any) -> None:
        pytest.fail("a test that starts a process belongs in tests/integration")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", open_process)
        patch.setattr(BaseProcess, "start", refuse)
        yield
