import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.bundles import toy_export

from edgekd.artifacts import ExportedPipeline
from edgekd.errors import InputError
from edgekd.export import stage
from edgekd.export.manifest import source_hash
from edgekd.file_record import finish
from edgekd.folders import atomic_folder
from edgekd.jobs.bundle import BundleRequest, bundle_run, bundle_stage, check_kinds
from edgekd.progress import Silent
from edgekd.run_folder import open_run, run_lock

PROGRESS = Silent()


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return toy_export(tmp_path_factory.mktemp("bundles") / "export")


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with a finished student and its export in float32."""
    folder = tmp_path / "run"
    with open_run(folder):
        student = folder / "distill" / "student"
        with atomic_folder(student) as temporary:
            (temporary / "model_index.json").write_text("{}")
            (temporary / "scheduler").mkdir()
            config = '{"_class_name": "DDIMScheduler"}'
            (temporary / "scheduler" / "scheduler_config.json").write_text(config)
            finish(temporary, "key of the student")
        out = folder / "export" / "student" / "fp32"
        out.parent.mkdir(parents=True)
        toy_export(out, source=source_hash(student))
        finish(out, "key of the export")
    return folder


def asked(source: Path, out: Path, **more: object) -> BundleRequest:
    return replace(BundleRequest(source, "desktop", out), **more)  # type: ignore[arg-type]


def test_of_an_export(exported, tmp_path):
    made = bundle_run(asked(exported, tmp_path / "out"), PROGRESS)
    assert made.archive is None
    assert made.facts.precision == "fp32"


def test_of_a_run_with_this_precision(run, tmp_path):
    made = bundle_run(asked(run, tmp_path / "out", zipped=True), PROGRESS)
    assert made.archive == tmp_path / "out.zip"
    assert not (run / "export" / "bundle-onnx").exists()


def test_a_run_is_given_the_export_that_it_lacks(run, tmp_path, monkeypatch):
    asked_for = []

    def export_all(pipeline, plan, out, key, progress):
        asked_for.append((pipeline, plan.target.name, plan.target.precisions, out))
        # The app draws, not the target's other clients: no warning of their schedulers.
        assert plan.target.schedulers == ["DDIMScheduler"]
        toy_export(out / "int8", precision="int8")
        return {"int8": ExportedPipeline(out / "int8", key, "onnx", "int8")}

    monkeypatch.setattr(stage, "export_all", export_all)
    made = bundle_run(asked(run, tmp_path / "out", precision="int8"), PROGRESS)
    place = run / "export" / "bundle-onnx"
    assert asked_for == [(run / "distill" / "student", "onnx", ["int8"], place)]
    assert made.facts.precision == "int8"


def test_an_export_of_an_earlier_student_is_not_taken(run, tmp_path, monkeypatch):
    student = run / "distill" / "student"
    (student / "more.json").write_text("{}")
    finish(student, "another key")
    monkeypatch.setattr(
        stage, "export_all", lambda *_: (_ for _ in ()).throw(InputError("made again", "it"))
    )
    with pytest.raises(InputError, match="made again"):
        bundle_run(asked(run, tmp_path / "out"), PROGRESS)


def test_the_last_stage_of_a_run(run):
    with run_lock(run):
        made = bundle_stage(run, ["desktop"], PROGRESS)
        assert made == {"desktop": run / "bundle" / "desktop"}
        before = made["desktop"].stat().st_ino
        assert bundle_stage(run, ["desktop"], PROGRESS)["desktop"].stat().st_ino == before


def test_an_app_that_somebody_used_is_never_lost(run):
    app = bundle_stage(run, ["desktop"], PROGRESS)["desktop"]
    (app / ".venv").mkdir()
    (app / ".venv" / "python").symlink_to("/usr/bin/python3")
    (app / "desktop" / "window.py").write_text("mine")
    with open_run(run):  # such a run goes on
        assert bundle_stage(run, ["desktop"], PROGRESS) == {"desktop": app}
    kept = app.with_name("desktop.set-aside-1")
    assert (kept / "desktop" / "window.py").read_text() == "mine"
    assert (kept / ".venv" / "python").is_symlink()
    assert not (app / ".venv").exists()


def without_student(run: Path) -> None:
    shutil.rmtree(run / "distill")


def damaged_student(run: Path) -> None:
    (run / "distill" / "student" / "model_index.json").write_text("[]")


@pytest.mark.parametrize("harm", [without_student, damaged_student])
def test_a_run_without_a_whole_student(run, tmp_path, harm):
    harm(run)
    with pytest.raises(InputError, match=r"must have a finished student"):
        bundle_run(asked(run, tmp_path / "out"), PROGRESS)


def test_a_damaged_export(exported, tmp_path):
    copy = tmp_path / "export"
    shutil.copytree(exported, copy)
    finish(copy, "key")
    (copy / "unet" / "model.onnx").write_bytes(b"half")
    with pytest.raises(InputError, match=r"as it was made.*`unet/model.onnx` is.*Export it again"):
        bundle_run(asked(copy, tmp_path / "out"), PROGRESS)
    assert not (tmp_path / "out").exists()


def test_an_export_of_another_runtime(exported, tmp_path):
    copy = tmp_path / "export"
    shutil.copytree(exported, copy)
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"onnx"', '"openvino"'))
    with pytest.raises(InputError, match=r"an export for onnx.*for openvino.*--target onnx"):
        bundle_run(asked(copy, tmp_path / "out"), PROGRESS)


def test_a_pipeline_is_told_how_to_become_an_export(tmp_path, starter_teacher):
    with pytest.raises(InputError, match=r"edgekd export .*teacher --target onnx --precision fp32"):
        bundle_run(asked(starter_teacher, tmp_path / "out"), PROGRESS)


def test_bad_requests(exported, run, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    bad = [
        (
            asked(exported, out, precision="fp8"),
            r"`--precision` for desktop must be one of .*'fp8'",
        ),
        (asked(exported, out, precision="int8"), r"in int8 for desktop.*in fp32.*--precision int8"),
        (asked(exported, out, kind="toaster"), r"`--for` must be one of"),
        (asked(tmp_path / "none", out), "a run or an export"),
        (asked(tmp_path / "full", out), "a run or an export"),
        (asked(exported, exported / "app"), "must lie outside"),
        (asked(run, run / "export" / "app"), "or in `bundle` of the run"),
        (asked(exported, exported.parent), r"`RUN\|EXPORT` must lie outside the out folder"),
        (asked(exported, tmp_path / "full"), "must be a new or empty folder"),
        (
            asked(exported, out, licence=tmp_path / "none.txt"),
            "`--license` must name a file that exists",
        ),
    ]
    for request, message in bad:
        with pytest.raises(InputError, match=message):
            bundle_run(request, PROGRESS)
    assert not out.exists()
    with run_lock(run), pytest.raises(InputError, match="one process may work on a run folder"):
        bundle_run(asked(run, out), PROGRESS)


def test_a_missing_tool_is_told_before_any_work(install, exported, tmp_path):
    install(
        "edgekd.bundles",
        "needy",
        """
from edgekd.errors import InputError

class Needy:
    name = title = "needy"
    runtime = target = "onnx"
    precisions = ("fp32",)
    steps = notes = ()
    def check(self): raise InputError("Node 20 must be installed", "none")
    def fill(self, folder, contents, progress): raise AssertionError

VALUE = Needy()
""",
    )
    with pytest.raises(InputError, match="Node 20"):
        bundle_run(asked(exported, tmp_path / "out", kind="needy"), PROGRESS)
    with pytest.raises(InputError, match="Node 20"):
        check_kinds(["desktop", "needy"])
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == "[]"
