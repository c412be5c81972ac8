from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.exported import describe, write_export

from edgekd.errors import InputError
from edgekd.serve.catalog import Catalog
from edgekd.serve.limits import Limits
from edgekd.serve.loaded import LoadedModels, model_bytes
from edgekd.serve.settings import ServeSettings

MIB = 1 << 20


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: describe(folder / name) for name in "abc"}


def use(models: LoadedModels, names: str) -> list[str]:
    held = []
    for name in names:
        with models.using(name):
            pass
        held.append("".join(models.names))
    return held


def test_the_least_recently_used_leaves(paths, monkeypatch):
    monkeypatch.setattr("edgekd.serve.loaded.model_bytes", lambda _: 10)
    models: LoadedModels
    models = LoadedModels(paths, 1, limit=125, resident=lambda: 100 + 10 * len(models.names))
    # Two fit; `c` drives out the one that was used before the other.
    assert use(models, "abac") == ["a", "ab", "ba", "ac"]
    assert use(models, "acb") == ["ca", "ac", "cb"]


def test_what_grew_at_its_first_drawing_counts(paths, monkeypatch):
    """Files of 10 that take 40: room for them is made ahead from the second time on."""
    monkeypatch.setattr("edgekd.serve.loaded.model_bytes", lambda _: 10)
    sizes, seen = {"a": 10, "b": 40, "c": 10}, []

    def resident() -> int:
        seen.append(100 + sum(sizes[name] for name in models.names))
        return seen[-1]

    models = LoadedModels(paths, 1, limit=150, resident=resident)
    assert use(models, "acb") == ["a", "ac", "cb"]
    assert max(seen) == 160
    seen.clear()
    assert use(models, "acb") == ["ba", "ac", "cb"]
    assert max(seen) == 150


def test_one_stays_whatever_it_takes(paths):
    models = LoadedModels(paths, 1, limit=1, resident=lambda: 100)
    assert use(models, "aabb") == ["a", "a", "b", "b"]


def test_without_a_limit_all_stay(paths):
    models = LoadedModels(paths, 1, limit=None)
    assert use(models, "abca") == ["a", "ab", "abc", "bca"]


def test_another_sampler_shares_the_models(tmp_path):
    models = LoadedModels({"a": write_export(tmp_path / "a")}, 1, None)
    pictures: list[Any] = []
    backends = []
    for sampler in (None, "EulerDiscreteScheduler", None):
        with models.using("a", sampler) as pipeline:
            pictures.append(pipeline.generate(["red apple"]))
            backends.append(pipeline.backend)
    assert backends[0] is backends[1] is backends[2]
    assert (pictures[0] != pictures[1]).any()
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_a_model_that_cannot_fit_is_refused_at_once(paths):
    size = model_bytes(paths["a"])
    settings = ServeSettings(paths, limits=Limits(memory_bytes=size - 1))
    with pytest.raises(InputError, match="above the size of each model"):
        Catalog(settings)
    Catalog(ServeSettings(paths, limits=Limits(memory_bytes=size)))
