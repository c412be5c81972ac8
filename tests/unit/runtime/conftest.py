import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.runtime.conditions import open_encoders
from edgekd.runtime.folder import read_folder
from edgekd.runtime.pipeline import Pipeline


@pytest.fixture
def folder(starter_teacher, tmp_path) -> Path:
    """What an export of the starter holds, without its models."""
    out = tmp_path / "export"
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(starter_teacher / name, out / name)
    shutil.copy(starter_teacher / "model_index.json", out)
    for part, source in (("unet",) * 2, ("vae_decoder", "vae"), ("text_encoder",) * 2):
        (out / part).mkdir()
        shutil.copy(starter_teacher / source / "config.json", out / part)
    manifest = {
        "format": 1,
        "runtime": "onnx",
        "precision": "fp32",
        "recommended": {"steps": 3, "guidance_scale": 2.0},
        "shapes": {"dynamic": True, "native": [64, 64], "multiple": 16},
    }
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return out


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
