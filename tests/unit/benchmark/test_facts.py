import json
import shutil
from pathlib import Path

from edgekd.benchmark.facts import component_bytes, component_parameters, parity, stored_dtype
from edgekd.diffusion.load import load_pipeline


def test_parameters_are_those_of_the_loaded_models(
    tiny_teacher: Path, tiny_sdxl_teacher: Path
) -> None:
    pipeline = load_pipeline(tiny_teacher)
    loaded = {
        name: sum(p.numel() for p in getattr(pipeline, name).parameters())
        for name in ("unet", "vae", "text_encoder")
    }
    assert component_parameters(tiny_teacher) == loaded
    assert {"text_encoder", "text_encoder_2"} <= set(component_parameters(tiny_sdxl_teacher))


def test_the_type_that_weights_are_stored_in(
    tiny_teacher: Path, starter_teacher: Path, tmp_path: Path
) -> None:
    assert stored_dtype(tiny_teacher) == "fp32"
    assert stored_dtype(starter_teacher) == "fp16"
    mixed = shutil.copytree(tiny_teacher, tmp_path / "mixed")
    shutil.rmtree(mixed / "vae")
    shutil.copytree(starter_teacher / "vae", mixed / "vae")
    assert stored_dtype(mixed) == "mixed"
    assert stored_dtype(tmp_path / "mixed" / "scheduler") is None


def test_an_export_has_its_manifests_parity(tmp_path: Path) -> None:
    manifest = {"components": {"unet": {"parity": {"snr_db": 90.0, "floor_db": 80.0}}, "t": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.onnx").write_bytes(b"x" * 1000)
    assert parity(tmp_path)["unet"].snr_db == 90.0
    assert component_bytes(tmp_path) == {"unet": 1000}
    assert parity(tmp_path / "unet") == {}
