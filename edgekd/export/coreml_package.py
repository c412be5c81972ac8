"""One part of a Core ML export on disk: written the same way every time, and opened to run.

`<component>/{<Package>.mlpackage, config.json, layout.json}`; `layout.json` maps the capture's
names to the package's.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.artifacts import read_json, write_json
from edgekd.errors import InputError
from edgekd.export.coreml_layout import Layout, named_layout
from edgekd.export.coreml_library import coremltools, quiet
from edgekd.export.mil.evaluator import PackageEvaluator
from edgekd.export.record import Arrays

LAYOUT_FILE = "layout.json"
# Facts of the moment, not of the model.
_VOLATILE = ("com.github.apple.coremltools.conversion_date",)


def package_path(folder: Path, layout: Layout) -> Path:
    return folder / f"{layout.package}.mlpackage"


def write_package(model: Any, folder: Path, layout: Layout, config: dict[str, Any]) -> None:
    """Write a converted part, its configuration and its layout.

    What coremltools writes differs from run to run in random identifiers, a date and the order of
    protobuf's maps; here equal models give equal files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = package_path(folder, layout)
    with quiet():
        model.save(str(path))
    manifest = read_json(path / "Manifest.json")
    entries = manifest["itemInfoEntries"]
    stable = {old: _identifier(entry["path"]) for old, entry in entries.items()}
    root = entries[manifest["rootModelIdentifier"]]["path"]
    manifest["itemInfoEntries"] = {
        new: entries[old] for old, new in sorted(stable.items(), key=lambda item: item[1])
    }
    manifest["rootModelIdentifier"] = stable[manifest["rootModelIdentifier"]]
    write_json(path / "Manifest.json", manifest)
    _rewrite_model(path / "Data" / root, layout)
    write_json(folder / "config.json", config)
    write_json(folder / LAYOUT_FILE, {"inputs": layout.inputs, "outputs": layout.outputs})


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper()


def _rewrite_model(path: Path, layout: Layout) -> None:
    model = coremltools.proto.Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    metadata = model.description.metadata
    metadata.shortDescription = f"{layout.package} of a Stable Diffusion pipeline"
    for name in _VOLATILE:
        metadata.userDefined.pop(name, None)
    path.write_bytes(model.SerializeToString(deterministic=True))


def load_model(folder: Path, layout: Layout) -> Any:
    """coremltools' `MLModel` of a written part, not loaded into Core ML."""
    with quiet():
        return coremltools.models.MLModel(str(package_path(folder, layout)), skip_model_load=True)


def read_layout(folder: Path, component: str) -> Layout:
    """The layout of a written part.

    Raises:
        InputError: the file has not the form that `write_package` gives it.
    """
    stored = read_json(folder / LAYOUT_FILE)
    try:
        layout = named_layout(component, tuple(stored["inputs"]), dict(stored["outputs"]))
        well_formed = layout.inputs == stored["inputs"]
    except (TypeError, KeyError, ValueError):
        well_formed = False
    if not well_formed:
        raise InputError(
            f"`{folder / LAYOUT_FILE}` must name the inputs and outputs of a {component}",
            str(stored)[:200],
        )
    return layout


class CoreMlPackage:
    """A package that Core ML runs; macOS only. Written to Apple's documentation, not run on Linux.

    Attributes:
        inputs: name -> (shape, numpy type's name).
        outputs: names.
        executed_by: runtime and version.
    """

    def __init__(self, package: Path) -> None:
        import platform

        with quiet():
            self._model = coremltools.models.MLModel(
                str(package), compute_units=coremltools.ComputeUnit.ALL
            )
        description = self._model.get_spec().description
        self.inputs = {
            feature.name: (tuple(feature.type.multiArrayType.shape), "float32")
            for feature in description.input
        }
        self.outputs = tuple(feature.name for feature in description.output)
        self.executed_by = f"Core ML of macOS {platform.mac_ver()[0]}, all compute units"

    def __call__(self, inputs: Arrays) -> Arrays:
        outputs = self._model.predict(inputs)
        return {name: np.asarray(outputs[name], dtype=np.float32) for name in self.outputs}


def runs_core_ml() -> bool:
    """Whether this machine has Core ML; elsewhere packages are evaluated."""
    return sys.platform == "darwin"


class PackageRunner:
    """A written part under the capture's names and shapes, any batch.

    Batches are cut into the package's fixed one; the last is filled up with its last row.

    Attributes:
        inputs, outputs: the capture's names; outputs that Apple's package does not read are left
            out.
        executed_by: what computes the outputs.
    """

    partial = True

    def __init__(self, folder: Path, component: str) -> None:
        self._layout = read_layout(folder, component)
        opened: Callable[[Path], Any] = CoreMlPackage if runs_core_ml() else PackageEvaluator
        self._package = opened(package_path(folder, self._layout))
        self._check_names()
        self.inputs = tuple(self._layout.inputs)
        self.outputs = tuple(self._layout.outputs)
        self.executed_by: str = self._package.executed_by

    def _check_names(self) -> None:
        wanted = (set(self._layout.inputs.values()), set(self._layout.outputs.values()))
        found = (set(self._package.inputs), set(self._package.outputs))
        if wanted != found:
            raise InputError(
                f"`{self._layout.package}` must have the inputs and outputs {wanted}", str(found)
            )

    def __call__(self, inputs: Arrays) -> Arrays:
        size = self._layout.batch
        count = max(array.shape[0] for array in inputs.values() if array.ndim)
        rows = [self._run(inputs, range(at, at + size), count) for at in range(0, count, size)]
        return {
            name: np.concatenate([row[apple] for row in rows])[:count]
            for name, apple in self._layout.outputs.items()
        }

    def _run(self, inputs: Arrays, indices: range, count: int) -> Arrays:
        taken = [min(index, count - 1) for index in indices]
        batch = {name: array[taken] if array.ndim else array for name, array in inputs.items()}
        outputs: Arrays = self._package(self._layout.to_apple(batch))
        return outputs
