from typing import Any

import numpy as np
import pytest
from fixtures.bench import bench, make_bench
from PIL import Image

__all__ = ["bench", "make_bench"]


@pytest.fixture
def tiny_recipe(tiny_teacher, tmp_path) -> dict[str, Any]:
    """Of `kd` and `few_step` in three steps each."""
    images = tmp_path / "images"
    images.mkdir()
    for index in range(24):
        pixels = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text(f"picture {index}")
    loop = {"steps": 3, "validation_samples": 2, "validate_every": 3}
    few = {**loop, "trajectories": 8, "teacher_steps": 2, "student_steps": 2}
    return {
        "name": "tiny",
        "teacher": {"path": str(tiny_teacher)},
        "data": {"sources": [str(images)], "workers": 1},
        "student": {"preset": "bk-sdm-small"},
        # In bf16 a sum over one sample and a sum over two round a thousandth apart.
        "distill": {
            **loop,
            "phases": ["kd", "few_step"],
            "precision": "fp32",
            "sample_steps": 1,
            "sample_prompts": ["a"],
            "few_step": few,
        },
    }
