"""What a verb writes as a whole."""

import json
import shutil
from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.jobs.export import ExportRequest, export_run
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.target import load_target


def test_an_export_fills_the_folder_that_one_stands_in(shallow_teacher, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    request = ExportRequest(
        shallow_teacher, load_target("onnx"), Path(), "fp32", steps=3, guidance_scale=1.5
    )
    assert export_run(request, Silent()).path == tmp_path / "here"
    manifest = read_json(tmp_path / "here" / "manifest.json")
    assert manifest["recommended"] == {"steps": 3, "guidance_scale": 1.5}


def test_steps_that_the_scheduler_does_not_take_are_said_before_any_work(shallow_teacher, tmp_path):
    source = tmp_path / "teacher"
    shutil.copytree(shallow_teacher, source)
    config = {"_class_name": "PNDMScheduler", "skip_prk_steps": False}
    (source / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    index = (source / "model_index.json").read_text(encoding="utf-8")
    (source / "model_index.json").write_text(index.replace("DDIMScheduler", "PNDMScheduler"))
    out = tmp_path / "out"
    request = ExportRequest(source, load_target("onnx"), out, "fp32", steps=2)
    with pytest.raises(InputError, match="as many as the PNDMScheduler takes, but got 2"):
        export_run(request, Silent())
    assert not out.exists()
