import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from edgekd.jobs import generate
from edgekd.jobs.generate import generate_run


class Drawer:
    """Draws nothing, and remembers how it was asked to."""

    scheduler = SimpleNamespace(set_timesteps=lambda steps: None)
    asked: dict[str, Any]

    def __call__(self, prompts: list[str], **options: Any) -> Any:
        self.asked = options
        return SimpleNamespace(images=[Image.new("RGB", (8, 8)) for _ in prompts])


@pytest.mark.parametrize(
    ("said", "given", "drawn"),
    [
        ({"steps": 4, "guidance_scale": 1.5}, {}, (4, 1.5)),
        ({"steps": 4, "guidance_scale": 1.5}, {"steps": 9}, (9, 1.5)),
        ({"steps": 4, "guidance_scale": 1.5}, {"guidance_scale": 3.0}, (4, 3.0)),
        (None, {}, (25, 4.0)),
    ],
)
def test_steps_and_guidance_are_the_folders_unless_they_are_given(
    said: dict[str, Any] | None,
    given: dict[str, Any],
    drawn: tuple[int, float],
    tiny_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawer = Drawer()
    monkeypatch.setattr(generate, "_open_export", lambda folder: drawer)
    folder = tmp_path / "export"
    shutil.copytree(tiny_teacher, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "manifest.json").write_text(json.dumps({"recommended": said}))
    (path,) = generate_run(folder, ["a cat"], tmp_path / "out", seed=0, **given)
    assert (drawer.asked["num_inference_steps"], drawer.asked["guidance_scale"]) == drawn
    assert path.is_file()
