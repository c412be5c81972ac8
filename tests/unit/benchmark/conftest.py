"""A matrix of rows that are never drawn, and a child that is this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.artifacts import PreparedData
from edgekd.benchmark.cache import Cache
from edgekd.benchmark.cases import Case
from edgekd.benchmark.failures import Failures
from edgekd.benchmark.matrix import Matrix
from edgekd.benchmark.prompts import Prompts
from edgekd.benchmark.suite import Suite
from edgekd.progress import Silent
from edgekd.recipe import RowGeneration


@pytest.fixture
def make_matrix(tmp_path) -> Callable[..., Matrix]:
    """`make_matrix(names, **suite)`: exported rows on 64 pixels, three prompts."""

    def make(names: str, **suite: Any) -> Matrix:
        generation = RowGeneration("DDIMScheduler", 6, 4.0)
        cases = tuple(
            Case(name, "student", "onnx", "fp32", Path(name), generation=generation)
            for name in names
        )
        return Matrix(
            suite=Suite(name="s", **suite),
            metrics=(),
            cases=cases,
            keys={case.name: f"key of {case.name}" for case in cases},
            data=PreparedData(tmp_path, "data", 9, 9, 64),
            prompts=Prompts(("0", "1", "2"), ("red", "green", "blue"), ("image",) * 3, 6),
            cache=Cache(tmp_path / "cache"),
            failures=Failures(Silent()),
        )

    return make


class InProcess:
    """`edgekd.processes.child.Child` without a process.

    Attributes:
        started: threads of each that was made.
    """

    started: list[int | None]

    def __init__(self, work: str, threads: int | None = None) -> None:
        del work
        self.started.append(threads)

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


@pytest.fixture
def in_process() -> type[InProcess]:
    return type("InProcess", (InProcess,), {"started": []})
