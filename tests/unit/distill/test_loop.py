from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.artifacts import TeacherCache
from edgekd.distill.loop import distill, make_accelerator, train_student
from edgekd.errors import InputError
from edgekd.progress import Silent


def test_a_cache_of_another_teacher_is_refused(
    bench: Any, tiny_teacher: Path, tmp_path: Path
) -> None:
    cache = TeacherCache(tmp_path / "cache", "key", "another teacher")
    with pytest.raises(InputError, match="cache must be of this teacher"):
        distill(bench.section(), bench.arch(), tiny_teacher, cache, tmp_path, Silent(), "key")


def test_processes_that_cannot_join_are_refused(bench: Any, monkeypatch: Any) -> None:
    """Each would believe to be the first and write the same files."""
    section = bench.section()
    alone = make_accelerator(section)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: alone)
    with pytest.raises(InputError, match="WORLD_SIZE=2"):
        make_accelerator(section)


def test_threads_are_given_back(bench: Any, tmp_path: Path, monkeypatch: Any) -> None:
    section = bench.section(threads=torch.get_num_threads() + 1)
    used = []

    class StopError(Exception):
        pass

    def note(*args: Any) -> None:
        used.append(torch.get_num_threads())
        raise StopError

    before = torch.get_num_threads()
    monkeypatch.setattr("edgekd.distill.loop.Trainer", note)
    accelerator = make_accelerator(section)
    with pytest.raises(StopError):
        train_student(
            section,
            bench.arch(),
            bench.teacher,
            bench.train,
            bench.validation,
            accelerator,
            tmp_path,
            Silent(),
            "key",
        )
    assert used == [before + 1]
    assert torch.get_num_threads() == before
