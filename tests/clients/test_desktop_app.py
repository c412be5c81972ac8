"""The desktop app with a real window, on Qt's platform without a screen."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.bundles import reference_picture, toy_export
from PIL import Image

from edgekd.jobs.bundle import BundleRequest, bundle_run
from edgekd.progress import Silent

DRIVER = Path(__file__).with_name("desktop_driver.py")


def run_in(bundle: Path, *command: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    environment = {
        **kept,
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(bundle),
        "QT_QPA_PLATFORM": "offscreen",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=bundle,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return toy_export(tmp_path_factory.mktemp("desktop") / "export")


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pictures") / "apple.png"


@pytest.fixture(scope="module")
def seen(exported, picture, tmp_path_factory) -> dict[str, Any]:
    """What the driver saw, in one process."""
    out = tmp_path_factory.mktemp("bundle") / "app"
    bundle_run(BundleRequest(exported, "desktop", out), Silent())
    result = run_in(out, str(DRIVER), str(picture))
    assert result.returncode == 0, result.stderr[-2000:]
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert Path(found["edgekd"]).is_relative_to(out)
    return found


def test_draws_the_same_picture_as_python(seen, exported, picture):
    assert seen["drawing"]["shown"]
    with Image.open(picture) as file:
        drawn, told = np.asarray(file), file.info["parameters"]
    assert np.array_equal(drawn, reference_picture(exported, "red apple, 3d style", 42))
    assert json.loads(told) == {
        "model": "toy-student",
        "seed": 42,
        "steps": 3,
        "guidance_scale": 2.0,
        "sampler": "DDIMScheduler",
    }


def test_window_tells_what_it_does(seen):
    drawing = seen["drawing"]
    assert drawing["title"] == "toy-student (fp32)"
    assert drawing["steps"] == [[1, 3], [2, 3], [3, 3]]
    said = r"red apple, 3d style, seed 42, drawn in \d+\.\d\d s"
    assert re.fullmatch(said, drawing["message"])
    assert drawing["while_drawing"] == [False, True]
    suggested = Path(drawing["suggested"])
    assert suggested.name == "toy-student-42.png"  # not the prompt
    assert suggested.is_absolute()  # nor the folder of the bundle
    assert suggested.parent.is_dir()
    assert drawing["saved"].startswith("Saved ")


def test_bad_input_is_told_in_the_window(seen):
    drawing = seen["drawing"]
    assert not drawing["save_before"]
    assert drawing["no_prompt"] == "Write what to draw first."
    assert drawing["large_seed"] == f"The seed must be below {2**32}."
    assert "cannot be written: No such file or directory" in drawing["not_saved"]


def test_a_drawing_can_be_cancelled_and_the_window_closed_meanwhile(seen):
    assert seen["cancel"] == [1, "cancelled"]
    assert seen["drawing"]["closed"]


def test_a_model_of_which_a_part_is_missing_is_refused(seen):
    title, message, can_draw = seen["part"]
    assert title == "The model cannot be opened"
    assert message.startswith("`unet/model.onnx` must have")
    assert "Unpack the bundle again." in message
    assert not can_draw


def test_needs_no_torch(seen):
    assert not seen["torch"]


@pytest.mark.parametrize(("missing", "way"), [("edgekd", "unpack the bundle"), ("numpy", "pip")])
def test_a_missing_module_is_one_line(exported, tmp_path, missing, way):
    out = tmp_path / "app"
    bundle_run(BundleRequest(exported, "desktop", out), Silent())
    code = (
        "import sys, runpy\n"
        f"sys.modules[{missing!r}] = None\n"
        "runpy.run_module('desktop', run_name='__main__')"
    )
    result = run_in(out, "-c", code)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {missing}")
    assert way in result.stderr
    assert len(result.stderr.splitlines()) == 1
