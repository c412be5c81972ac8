import re

import pytest
import yaml
from fixtures.captioned import fill_folder

from edgekd.errors import InputError
from tools.distill import teacher_guidance

__all__ = ["fill_folder"]


@pytest.fixture
def ask(shallow_teacher, fill_folder, tmp_path, capsys):
    """`ask(*settings)`: each with its passes, score, error and FD."""
    recipe = {
        "name": "tiny",
        "teacher": {"path": str(shallow_teacher)},
        "data": {
            "sources": [str(fill_folder(tmp_path / "images", 24))],
            "workers": 1,
            "split": {"image_fraction": 0.5},
        },
        "distill": {"precision": "fp32", "few_step": {"student_steps": 2}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def run(*settings: str, samples: int = 4) -> dict[str, list[float]]:
        given = ["--config", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run")]
        teacher_guidance.main([*given, "--samples", str(samples), *settings])
        lines = capsys.readouterr().out.splitlines()
        number = r"(-?[\d.]+)"
        form = rf"(\S+): {number} passes, score {number} ± {number}, FD {number}"
        found = [re.fullmatch(form, line) for line in lines]
        return {match[1]: [float(match[i]) for i in range(2, 6)] for match in found if match}

    return run


def test_each_setting_is_drawn_and_measured(ask):
    found = ask("4:4:1", "4:4:0.5", "4:1:1", "2:4:1")
    assert [figures[0] for figures in found.values()] == [8, 6, 4, 4]
    assert all(fd > 0 and 0 <= score <= 100 for _, score, _, fd in found.values())
    assert len({fd for *_, fd in found.values()}) > 1
    assert ask("4:4:0.5") == {"4:4:0.5": found["4:4:0.5"]}


@pytest.mark.parametrize("text", ["4:4", "4:4:1:1", "x:4:1", "4:4:0", "4:0.5:1", "0:4:1"])
def test_bad_settings(ask, text):
    with pytest.raises(InputError, match="must be STEPS:SCALE:STOP"):
        ask(text)


def test_too_many_samples(ask):
    with pytest.raises(InputError, match="--samples"):
        ask("2:4:1", samples=1000)
