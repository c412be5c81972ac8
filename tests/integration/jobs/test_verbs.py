"""What a verb writes as a whole."""

from pathlib import Path

from edgekd.export.protocol import Generation
from edgekd.jobs.export import ExportRequest, export_run
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.target import load_target


def test_an_export_fills_the_folder_that_one_stands_in(tiny_teacher, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    request = ExportRequest(
        tiny_teacher, load_target("onnx"), Path(), "fp32", generation=Generation(3, 1.5)
    )
    assert export_run(request, Silent()).path == tmp_path / "here"
    manifest = read_json(tmp_path / "here" / "manifest.json")
    assert manifest["recommended"] == {"steps": 3, "guidance_scale": 1.5}
