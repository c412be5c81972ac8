import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from edgekd.bundle.build import build
from edgekd.bundle.contents import read_contents
from edgekd.bundle.desktop import KIND, RUNTIME_FILES
from edgekd.bundle.kind import template
from edgekd.errors import InputError
from edgekd.export.onnx.precisions import PRECISIONS
from edgekd.progress import Silent
from edgekd.target import load_target

ROOT = Path(__file__).parents[3]


def test_default_precision_is_the_target_s():
    assert KIND.precisions[0] == load_target(KIND.target).deploy
    assert set(KIND.precisions) <= {*PRECISIONS, "mixed"}


def test_runtime_files_are_in_the_second_distribution():
    """What the runtime imports beside itself is told by tests/unit/test_import_rules.py."""
    hook = (ROOT / "runtime" / "hatch_build.py").read_text()
    listed = re.findall(r'"([^"]+)"', hook.partition("FILES = (")[2].partition(")")[0])
    assert set(RUNTIME_FILES) <= set(listed)


def test_requirements_are_those_of_the_second_distribution():
    project = (ROOT / "runtime" / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|onnx) = \[(.+)\]", project, re.MULTILINE)
    assert len(lists) == 2
    needed = set(re.findall(r'"([^"]+)"', " ".join(lists)))
    lines = (template("desktop") / "requirements.txt").read_text().split()
    assert {line for line in lines if "PySide6" not in line} == needed


@pytest.fixture
def model(exported, tmp_path) -> Path:
    return build(KIND, read_contents(exported), tmp_path / "out", Silent()).path / "model"


@pytest.fixture
def open_model(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(str(template("desktop")))
    yield import_module("desktop.model").open_model
    for name in [name for name in sys.modules if name.partition(".")[0] == "desktop"]:
        del sys.modules[name]


def test_app_opens_a_whole_model(model, open_model):
    assert open_model(model).name == "toy-student"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda model: (model / "unet" / "model.onnx").unlink(), "no such file"),
        (lambda model: (model / "tokenizer" / "merges.txt").write_text("x"), "1 bytes"),
        (lambda model: (model / "model.json").unlink(), "the file must exist"),
        (lambda model: (model / "model.json").write_text('{"format": 2}'), "of format 1"),
        (lambda model: (model / "model.json").write_text('{"format": 1, "files": 3}'), "an object"),
        (lambda model: shutil.rmtree(model), "the file must exist"),
    ],
)
def test_app_refuses_what_is_not_whole(model, open_model, harm, told):
    harm(model)
    with pytest.raises(InputError, match=told):
        open_model(model)


def test_app_refuses_a_file_of_the_same_size_and_another_content(model, open_model):
    weights = model / "vae_decoder" / "model.onnx"
    content = weights.read_bytes()
    weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError, match="as it was packed"):
        open_model(model)
