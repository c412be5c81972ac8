import pytest
import torch

from edgekd.artifacts import TeacherCache
from edgekd.distill import loop
from edgekd.distill.loop import make_accelerator
from edgekd.distill.sources import CachedTeacher
from edgekd.errors import InputError


def test_a_cache_of_another_teacher_is_refused(tiny_teacher, tmp_path):
    cache = TeacherCache(tmp_path / "cache", "key", "another teacher")
    with pytest.raises(InputError, match="cache must be of this teacher"):
        CachedTeacher(tiny_teacher, cache).load(torch.device("cpu"))


def test_processes_that_cannot_join_are_refused(monkeypatch):
    """Each would believe to be the first and write the same files."""
    alone = make_accelerator()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: alone)
    with pytest.raises(InputError, match="WORLD_SIZE=2"):
        make_accelerator()


def test_threads_are_given_back(bench, tmp_path, monkeypatch):
    used = []

    class StopError(Exception):
        pass

    def note(*args):
        used.append(torch.get_num_threads())
        raise StopError

    before = torch.get_num_threads()
    monkeypatch.setattr(loop, "Trainer", note)
    with pytest.raises(StopError):
        bench.run(tmp_path, threads=before + 1)
    assert used == [before + 1]
    assert torch.get_num_threads() == before
