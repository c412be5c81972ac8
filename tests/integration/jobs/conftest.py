from typing import Any

import pytest
from fixtures.bench import bench, make_bench
from fixtures.captioned import fill_folder

__all__ = ["bench", "fill_folder", "make_bench"]


@pytest.fixture
def tiny_recipe(tiny_teacher, fill_folder, tmp_path) -> dict[str, Any]:
    """Of `kd` and `few_step` in three steps each."""
    images = fill_folder(tmp_path / "images", 24)
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
