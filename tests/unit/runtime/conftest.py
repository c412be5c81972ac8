from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.exported import describe

from edgekd.runtime.conditions import open_encoders
from edgekd.runtime.folder import read_folder
from edgekd.runtime.pipeline import Pipeline


@pytest.fixture
def folder(tmp_path) -> Path:
    """What an export of the starter holds, without its models."""
    return describe(tmp_path / "export")


class Parts:
    """Parts that remember how they were called: shapes are right, values are easy to follow."""

    def __init__(self, noise: float = 0.5) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.loaded: list[str] = []
        self.noise = noise

    def load(self, component: str) -> None:
        self.loaded.append(component)

    def run(self, component: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append((component, dict(inputs)))
        if component == "text_encoder":
            ids = inputs["input_ids"]
            return {"last_hidden_state": np.repeat(ids[..., None], 8, -1).astype(np.float32)}
        if component == "unet":
            return {"out_sample": np.full_like(inputs["sample"], self.noise)}
        count, _, height, width = inputs["latent_sample"].shape
        return {"sample": np.full((count, 3, 4 * height, 4 * width), self.noise, np.float32)}

    def shapes(self, component: str, name: str) -> list[tuple[int, ...]]:
        return [np.shape(inputs[name]) for part, inputs in self.calls if part == component]


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def pipeline(folder, parts) -> Pipeline:
    described = read_folder(folder)
    return Pipeline(described, parts, tuple(open_encoders(described, parts)))
