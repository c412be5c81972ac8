"""A real export, damaged on purpose. The undamaged one passes in the first test."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekd.errors import GateError
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.parity import ComponentGate, check_component, load_for_parity, open_component
from edgekd.export.picture_parity import PictureParity, check_pictures
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.record import Trajectory
from edgekd.export.trajectory import record_for_parity
from edgekd.progress import Silent


@pytest.fixture(scope="module")
def trajectory(shallow_teacher) -> Trajectory:
    from edgekd.diffusion.load import load_pipeline

    return record_for_parity(load_pipeline(shallow_teacher), ["red apple"], Generation(steps=2))


# Parity does not look at the precision: one that equals torch, and one that does not quite.
PRECISIONS = ("fp32", "int8")


@pytest.fixture(scope="module")
def exported_folders(shallow_teacher, trajectory, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exported")
    base = None
    for precision in PRECISIONS:
        options = ExportOptions(
            ("red apple",), Generation(steps=2), trajectory=trajectory, base=base
        )
        out = root / precision
        OnnxExporter().export(shallow_teacher, out, precision, Silent(), options)
        base = root / PRECISIONS[0]
    return {precision: root / precision for precision in PRECISIONS}


@pytest.fixture(scope="module", params=PRECISIONS)
def exported(request, exported_folders) -> tuple[Path, str]:
    return exported_folders[request.param], request.param


def _check(folder: Path, precision: str, trajectory: Trajectory) -> PictureParity:
    """What an export's steps check, on a folder."""
    exporter = OnnxExporter()
    floors = exporter.floors(precision)
    for name in trajectory.recordings:
        runner = open_component(exporter, folder, name)
        check_component(
            ComponentGate(name, precision, floors.component(name)), runner, trajectory.calls(name)
        )
    drawer = load_for_parity(exporter, folder)
    return check_pictures(drawer, precision, trajectory, floors.picture)


def test_undamaged_export_passes(exported, trajectory):
    assert set(trajectory.recordings) == {"text_encoder", "unet", "vae_encoder", "vae_decoder"}
    pictures = _check(*exported, trajectory)
    assert pictures.psnr_db >= pictures.floor_db


def _edit_weight(part: str, of: str, change: Callable[[Any], Any]) -> Callable[[Path], str]:
    """Change one initialiser: the largest whose name holds `of`."""

    def damage(folder: Path) -> str:
        path = folder / part / "model.onnx"
        model = onnx.load(path)
        tensors = [item for item in model.graph.initializer if of in item.name]
        tensor = max(tensors, key=lambda item: np.prod(item.dims))
        changed = change(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), tensor.name))
        onnx.save(model, path)
        return part

    return damage


def _with_nan(weight: Any) -> Any:
    weight.flat[0] = np.nan
    return weight


def _swap_outputs(folder: Path) -> str:
    path = folder / "text_encoder" / "model.onnx"
    model = onnx.load(path)
    first, second = model.graph.output
    reordered = [second, first]
    del model.graph.output[:]
    model.graph.output.extend(reordered)
    onnx.save(model, path)
    return "text_encoder"


def _decoder_as_encoder(folder: Path) -> str:
    shutil.copy(folder / "vae_decoder" / "model.onnx", folder / "vae_encoder" / "model.onnx")
    return "vae_encoder"


def _cut_file(folder: Path) -> str:
    path = folder / "unet" / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "unet"


def _remove(folder: Path) -> str:
    (folder / "vae_decoder" / "model.onnx").unlink()
    return "vae_decoder"


@pytest.mark.parametrize(
    "damage",
    [
        _edit_weight("unet", "conv_out.bias", lambda bias: bias + 0.2),
        _edit_weight("unet", "conv_out.bias", _with_nan),
        _edit_weight("unet", "conv_out.weight", lambda weight: weight.swapaxes(2, 3)),
        _edit_weight("vae_decoder", "conv_in.weight", lambda weight: -weight),
        _edit_weight("text_encoder", "position_embedding.weight", lambda weight: weight[::-1]),
        _swap_outputs,
        _decoder_as_encoder,
        _cut_file,
        _remove,
    ],
    ids=["bias", "nan", "transposed", "sign", "rows", "swapped", "exchanged", "cut", "missing"],
)
def test_damaged_export_fails(tmp_path, exported, trajectory, damage):
    folder, precision = exported
    copy = shutil.copytree(folder, tmp_path / "copy")
    part = damage(copy)
    with pytest.raises(GateError, match=f"component={part}"):
        _check(copy, precision, trajectory)


def test_wrong_scheduler_fails_by_its_pictures(tmp_path, exported, trajectory):
    """Each part is right, the whole is not."""
    folder, precision = exported
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = copy / "scheduler" / "scheduler_config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"epsilon"', '"v_prediction"'), encoding="utf-8")
    with pytest.raises(GateError, match="pictures"):
        _check(copy, precision, trajectory)
