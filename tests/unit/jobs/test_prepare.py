"""Where images are encoded."""

from types import SimpleNamespace
from typing import Any

import torch

from edgekd.data import cache_writer
from edgekd.data.cache_writer import ENCODERS
from edgekd.diffusion import load
from edgekd.jobs import prepare
from edgekd.progress import Silent


def test_images_are_encoded_on_the_gpu_by_the_encoders_alone(tmp_path, monkeypatch):
    given: list[Any] = []

    def load_teacher(path: Any, **options: Any) -> str:
        given.append((path, options))
        return "encoders"

    def build_cache(data: Any, teacher: Any, out: Any, progress: Any) -> tuple[Any, ...]:
        return data, teacher, out

    monkeypatch.setattr(prepare, "own_device", lambda: torch.device("cuda", 2))
    monkeypatch.setattr(load, "load_teacher", load_teacher)
    monkeypatch.setattr(cache_writer, "build_cache", build_cache)
    data: Any = SimpleNamespace()
    made = prepare.encode_images(data, tmp_path, tmp_path / "run", Silent())
    assert made == (data, "encoders", tmp_path / "run" / "cache")
    assert given == [(tmp_path, {"device": "cuda:2", "only": ENCODERS})]
