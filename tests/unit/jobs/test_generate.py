import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.exported import describe
from PIL import Image

from edgekd.errors import GateError, InputError
from edgekd.export import manifest, registry
from edgekd.jobs import generate
from edgekd.jobs.generate import DrawRequest, generate_run
from edgekd.libraries import diffusers
from edgekd.runtime.folder import Shapes


class Drawer:
    """Draws nothing, and remembers how it was asked to."""

    asked: dict[str, Any]
    value = 0.5

    def __init__(self) -> None:
        self.scheduler = diffusers.PNDMScheduler(beta_end=0.012, skip_prk_steps=True)

    def __call__(self, prompt: list[str], negative_prompt: Any = None, **options: Any) -> Any:
        self.asked = {"prompt": prompt, "negative_prompt": negative_prompt, **options}
        return SimpleNamespace(images=np.full((len(prompt), 8, 8, 3), self.value))


class GuidanceDistilled(Drawer):
    def __call__(self, prompt: list[str], **options: Any) -> Any:
        return super().__call__(prompt, **options)


def export_folder(tmp_path: Path, tiny_teacher: Path, said: Any) -> Path:
    folder = tmp_path / "export"
    shutil.copytree(tiny_teacher, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "manifest.json").write_text(json.dumps({"recommended": said}))
    return folder


@pytest.fixture
def drawer(monkeypatch) -> Drawer:
    made = Drawer()
    monkeypatch.setattr(generate, "_open_export", lambda folder: made)
    return made


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
    said, given, drawn, tiny_teacher, tmp_path, drawer
):
    folder = export_folder(tmp_path, tiny_teacher, said)
    (path,) = generate_run(folder, DrawRequest(["a cat"], **given), tmp_path / "out")
    assert (drawer.asked["num_inference_steps"], drawer.asked["guidance_scale"]) == drawn
    assert np.unique(np.asarray(Image.open(path))).tolist() == [128]


@pytest.fixture
def teacher_drawer(monkeypatch) -> Drawer:
    made = Drawer()
    monkeypatch.setattr(generate, "_open", lambda folder: made)
    monkeypatch.setattr(generate, "_shapes", lambda *_: Shapes((32, 48), 8, True))
    return made


def test_everything_that_is_asked_for(teacher_drawer, tiny_teacher, tmp_path):
    drawing = DrawRequest(
        ["-a cat", "b"],
        negative_prompt="rain",
        seed=3,
        steps=2,
        guidance_scale=0.0,
        height=64,
        sampler="unipc",
    )
    generate_run(tiny_teacher, drawing, tmp_path / "out")
    asked = teacher_drawer.asked
    assert [one.initial_seed() for one in asked.pop("generator")] == [3, 4]
    assert asked == {
        "output_type": "np",
        "prompt": ["-a cat", "b"],
        "negative_prompt": ["rain", "rain"],
        "num_inference_steps": 2,
        "guidance_scale": 0.0,
        "height": 64,
        "width": 48,
    }
    assert type(teacher_drawer.scheduler).__name__ == "UniPCMultistepScheduler"
    assert teacher_drawer.scheduler.config.beta_end == 0.012


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 50}, "multiples of 8, but got height=32, width=50"),
        ({"sampler": "plms"}, "the sampler must be one of ddim"),
        ({"guidance_scale": float("nan")}, "0 <= --guidance < inf"),
        ({"steps": 1001, "sampler": "ddim"}, "as many as the DDIMScheduler takes, but got 1001"),
    ],
)
def test_what_is_refused(given, message, teacher_drawer, tiny_teacher, tmp_path):
    with pytest.raises(InputError, match=message):
        generate_run(tiny_teacher, DrawRequest(["a cat"], **given), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_guidance_distilled_pipeline_takes_no_negative_prompt(
    tiny_teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr(generate, "_open", lambda folder: GuidanceDistilled())
    drawing = DrawRequest(["a cat"], negative_prompt="rain")
    with pytest.raises(InputError, match="takes no negative prompt, but got rain"):
        generate_run(tiny_teacher, drawing, tmp_path / "out")
    generate_run(tiny_teacher, DrawRequest(["a cat"], negative_prompt=""), tmp_path / "out")


def test_an_exports_tokens_are_those_of_its_text_encoder(tmp_path, monkeypatch):
    """As edgekd's own runtime has it: diffusers would take the last id that there is."""
    folder = describe(tmp_path / "export")
    exporter = SimpleNamespace(name="onnx", load=lambda path: "loaded")
    monkeypatch.setattr(manifest, "read_manifest", lambda path: SimpleNamespace(runtime="onnx"))
    monkeypatch.setattr(registry, "get_exporter", lambda name: exporter)
    assert generate._open_export(folder) == "loaded"
    path = folder / "tokenizer" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "added_tokens_decoder": {"99999": {"content": "<cat>"}}}))
    with pytest.raises(InputError, match="must hold for the tokens of"):
        generate._open_export(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="must be a regular file"):
        generate._open_export(folder)


def test_parts_of_two_exports_are_one_line(tiny_teacher, tmp_path, monkeypatch):
    """What the runtime says of them differs, and may have several lines."""

    class Swapped(Drawer):
        def __call__(self, *_: Any, **__: Any) -> Any:
            raise ValueError("input_ids is required\nby model")

    monkeypatch.setattr(generate, "_open_export", lambda folder: Swapped())
    folder = export_folder(tmp_path, tiny_teacher, None)
    with pytest.raises(InputError, match=r"parts of the export must fit .*required by model\)"):
        generate_run(folder, DrawRequest(["a cat"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_not_finite_are_no_pictures(teacher_drawer, tiny_teacher, tmp_path):
    """As edgekd's own runtime has it; they were black, with exit code 0."""
    teacher_drawer.value = float("nan")
    with pytest.raises(GateError, match="pictures must be finite"):
        generate_run(tiny_teacher, DrawRequest(["a cat"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
