import errno
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekd.errors import GateError, InputError
from edgekd.export import isolate
from edgekd.export.checks import check_capabilities
from edgekd.export.coreml.exporter import CoreMlExporter
from edgekd.export.isolate import InProcess, Isolated
from edgekd.export.keys import usable_base
from edgekd.export.manifest import (
    Origin,
    content_hash,
    read_manifest,
    scheduler_warning,
    source_hash,
    write_manifest,
)
from edgekd.export.onnx import exporter as onnx_module
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.onnx.pipeline import load_onnx_pipeline
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.record import Trajectory
from edgekd.export.trajectory import record_for_parity
from edgekd.files import write_json
from edgekd.measure.exported import in_few_steps, open_exported, step_calls, weigh
from edgekd.measure.picture import PictureOrder
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.runtime.folder import Shapes, read_folder

GENERATION = Generation(steps=2, guidance_scale=3.0)
ELSEWHERE = Origin(hash="0" * 64, licence=None, loras=[], pipeline="StableDiffusionPipeline")


@pytest.fixture(scope="module")
def trajectory(tiny_teacher) -> Trajectory:
    from edgekd.diffusion.load import load_pipeline

    return record_for_parity(load_pipeline(tiny_teacher), ["cat"], GENERATION)


def _export(source: Path, out: Path, trajectory: Trajectory, **options: Any) -> Any:
    return OnnxExporter().export(
        source,
        out,
        "fp32",
        Silent(),
        ExportOptions(("cat",), generation=GENERATION, trajectory=trajectory, **options),
    )


@pytest.fixture(scope="module")
def exported(tiny_teacher, trajectory, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("export") / "fp32"
    _export(tiny_teacher, out, trajectory, schedulers=("LCMScheduler",))
    return out


def test_layout_is_the_one_that_optimum_loads(exported):
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*.*")}
    parts = ("text_encoder", "unet", "vae_encoder", "vae_decoder")
    assert {f"{part}/{name}" for part in parts for name in ("model.onnx", "config.json")} <= files
    assert {"model_index.json", "manifest.json", "scheduler/scheduler_config.json"} <= files
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt"} <= files
    assert not [name for name in files if name.endswith((".safetensors", ".tmp"))]


class UnetIsolated(Isolated):
    """The U-Net's steps and the drawing in children, each of which takes seconds to start."""

    def run(self, step, order):
        if getattr(order, "component", "unet") == "unet":
            return super().run(step, order)
        return InProcess(OnnxExporter()).run(step, order)


def test_children_write_the_same_files(exported, tiny_teacher, trajectory, tmp_path, monkeypatch):
    """A memory limit puts each step into a process of its own."""
    monkeypatch.setattr(isolate, "Isolated", UnetIsolated)
    out = tmp_path / "out"
    _export(tiny_teacher, out, trajectory, memory_limit_bytes=10**11)
    assert content_hash(out) == content_hash(exported)
    here, apart = (read_manifest(path).memory for path in (exported, out))
    assert not here.isolated
    assert apart.isolated
    unet = read_manifest(out).components["unet"]
    # This process is counted beside its child.
    assert unet.peak_rss_bytes < apart.peak_rss_bytes < apart.limit_bytes == 10**11
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (out / ".work").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"precisions": ("fp64",)}, "fp64"), ({"accepts_tiny_decoder": False}, "AutoencoderTiny")],
)
def test_what_the_exporter_does_not_declare_is_refused(monkeypatch, change, said):
    from edgekd.libraries import diffusers

    ((name, value),) = change.items()
    monkeypatch.setattr(OnnxExporter, name, value)
    pipeline = SimpleNamespace(vae=diffusers.AutoencoderTiny())
    with pytest.raises(InputError, match=said):
        check_capabilities(OnnxExporter(), pipeline, "fp32")


def test_stock_optimum_loads_it_without_edgekd(exported):
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    pipeline = ORTStableDiffusionPipeline.from_pretrained(exported)
    images = pipeline("cat", num_inference_steps=1, output_type="np").images
    assert images.shape == (1, 32, 32, 3)


def test_manifest_tells_clients_what_to_use(exported):
    manifest = read_manifest(exported)
    assert manifest.recommended == GENERATION
    assert manifest.scheduler == "DDIMScheduler"
    assert "LCMScheduler" in manifest.warning
    assert manifest.shapes == Shapes((32, 32), 32, dynamic=True)
    assert manifest.versions.keys() >= {"edgekd", "torch", "onnx", "onnxruntime"}
    assert "onnxruntime" in manifest.components["unet"].parity.executed_by


def test_no_file_names_the_machine(exported, tiny_teacher):
    for path in exported.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(tiny_teacher.parent).encode() not in content, path
            assert str(exported.parent).encode() not in content, path


def test_full_disk_is_one_clear_line(tmp_path, tiny_teacher, trajectory, monkeypatch):
    def full(captured, path):
        path.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_module, "write_onnx", full)
    with pytest.raises(InputError, match="No space left on device") as failure:
        _export(tiny_teacher, tmp_path / "out", trajectory)
    assert "\n" not in str(failure.value)
    assert list(tmp_path.iterdir()) == []


def test_disk_that_is_too_small_is_seen_before_the_work(tmp_path, tiny_teacher, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=3_000_000))
    monkeypatch.setattr(OnnxExporter, "convert", None)  # must not get this far
    with pytest.raises(InputError, match=r"must have \d\d MB free, but got 3 MB"):
        OnnxExporter().export(
            tiny_teacher, tmp_path / "out", "fp32", Silent(), ExportOptions(("cat",))
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_never_replaced(tmp_path, tiny_teacher, trajectory):
    (tmp_path / "holiday.txt").write_text("sun", encoding="utf-8")
    with pytest.raises(InputError, match="--out"):
        _export(tiny_teacher, tmp_path, trajectory)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    "change", [{"source": ELSEWHERE}, {"precision": "int8"}, {"versions": {"torch": "1.0"}}]
)
def test_base_of_another_source_precision_or_version_is_not_used(
    tmp_path, tiny_teacher, exported, change
):
    source = source_hash(tiny_teacher)
    assert usable_base(OnnxExporter(), exported, source) == exported
    manifest = read_manifest(exported)
    write_manifest(tmp_path, manifest.model_copy(update=change))
    assert usable_base(OnnxExporter(), tmp_path, source) is None


def test_nan_from_torch_is_no_export(tmp_path, tiny_teacher, trajectory):
    broken = trajectory.recordings["vae_decoder"][0]
    outputs = {"sample": np.full_like(broken.outputs["sample"], np.nan)}
    recordings = {**trajectory.recordings, "vae_decoder": [type(broken)(broken.inputs, outputs)]}
    spoiled = replace(trajectory, recordings=recordings)
    with pytest.raises(GateError, match="component=vae_decoder"):
        _export(tiny_teacher, tmp_path / "out", spoiled)
    assert list(tmp_path.iterdir()) == []


def test_scheduler_that_clients_know_needs_no_warning():
    assert scheduler_warning("DDIMScheduler", ("DDIMScheduler",)) is None


def test_no_other_scheduler_is_recommended_for_a_consistency_student():
    known = ("DDIMScheduler",)
    assert "set one of these" in str(scheduler_warning("PNDMScheduler", known))
    assert "a client that knows it" in str(scheduler_warning("LCMScheduler", known))


def test_apples_solver_is_told_where_it_is_not_the_pipelines():
    config = {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 1}
    say = CoreMlExporter().drawing_warning
    assert "in 4 steps they differ" in str(say(config, 4))
    assert say(config, 2) is None
    assert say({**config, "solver_order": 2}, 4) is None
    assert say({"_class_name": "PNDMScheduler"}, 25) is None


@pytest.mark.parametrize("missing", ["model_index.json", "unet/model.onnx"])
def test_incomplete_folder_is_refused_without_a_download(tmp_path, exported, missing):
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / missing).unlink()
    with pytest.raises(InputError, match=missing):
        load_onnx_pipeline(copy)


def test_a_sampler_that_begins_with_runge_kutta_steps(tiny_teacher, tmp_path):
    """PNDM as diffusers has it by default takes four steps at least."""
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    config = teacher / "scheduler" / "scheduler_config.json"
    kept = {k: v for k, v in read_json(config).items() if k.startswith(("beta", "num_train"))}
    write_json(config, {"_class_name": "PNDMScheduler", **kept})
    index = read_json(teacher / "model_index.json")
    write_json(teacher / "model_index.json", {**index, "scheduler": ["diffusers", "PNDMScheduler"]})
    out = tmp_path / "out"
    options = ExportOptions(prompts=("cat",), generation=Generation(steps=5, guidance_scale=3.0))
    OnnxExporter().export(teacher, out, "fp32", Silent(), options)
    side = read_folder(out).shapes.native[0]
    order = PictureOrder(out, 1, "PNDMScheduler", 5, 3.0, ("cat",), (0,), side)
    assert weigh(order).peak_bytes > 0
    pipeline = open_exported(order)
    assert in_few_steps(pipeline, order).steps == 4
    calls = step_calls(pipeline, in_few_steps(pipeline, order))
    # One step's call alone, with its guidance: a session has thirteen.
    assert len(calls["unet"]()) == 1
