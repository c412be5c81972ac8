"""Exports of a model that rounding hurts: honest ones pass, damaged ones do not.

Outliers in every layer: 8-bit weights keep so little of the model that it is below the floor of the
precision, in any runtime and in torch alike.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.diffusion.load import load_pipeline
from edgekd.errors import GateError
from edgekd.export.parity import ComponentParity
from edgekd.export.protocol import Generation
from edgekd.export.registry import get_exporter
from edgekd.export.steps import PartOrder, check, convert
from edgekd.export.trajectory import record_for_parity
from edgekd.export.trajectory_files import save_trajectory

PART = "vae_decoder"


@pytest.fixture(scope="module")
def pipeline(shallow_teacher) -> Any:
    """A decoder with two weights in each layer that are a hundred times the others."""
    found = load_pipeline(shallow_teacher)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in found.vae.decoder.modules():
            if isinstance(layer, torch.nn.Conv2d):
                rows = layer.weight.view(len(layer.weight), -1)
                places = torch.randint(rows.shape[1], (len(rows),), generator=random)
                rows[torch.arange(len(rows)), places] *= 100
    return found


@pytest.fixture(scope="module")
def order(pipeline, tmp_path_factory) -> PartOrder:
    folder = tmp_path_factory.mktemp("outliers")
    pipeline.save_pretrained(folder / "source")
    recorded = record_for_parity(pipeline, ("a", "b"), Generation(2, 4.0), other_shapes=False)
    save_trajectory(recorded, folder / "trajectory")
    return PartOrder(
        folder / "source",
        folder / "trajectory",
        folder,
        "int8",
        PART,
        floor=None,  # type: ignore[arg-type]
    )


def checked(order: PartOrder, runtime: str, folder: Path, damage: bool = False) -> ComponentParity:
    exporter = get_exporter(runtime)

    def load(path: Path, only: Any = None) -> Any:
        found = load_pipeline(path, only=only)
        if damage and found.vae is not None:
            with torch.no_grad():
                found.vae.decoder.mid_block.resnets[0].conv1.weight.neg_()
        return found

    own = replace(order, folder=folder, floor=exporter.floors("int8").component(PART))
    convert(own, exporter, load)
    return check(own, exporter, load_pipeline)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_honest_export_of_such_a_model_passes(order, runtime, tmp_path):
    parity = checked(order, runtime, tmp_path)
    floor = get_exporter(runtime).floors("int8").component(PART)
    assert parity.snr_db < floor.db
    assert parity.floor_db < floor.db
    assert "torch keeps" in parity.floor_reason
    assert np.isfinite(parity.snr_db)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_damaged_one_does_not(order, runtime, tmp_path):
    with pytest.raises(GateError, match=r"Of this very model .* would do"):
        checked(order, runtime, tmp_path, damage=True)
