"""Core ML on macOS: `<part>/<Package>.mlpackage` and `layout.json`.

Packages have fixed batches and shapes; a batch of any size is run in turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekd.errors import InputError
from edgekd.runtime.backend import Array, Arrays, given, unusable
from edgekd.runtime.coreml_layout import package_path, read_layout
from edgekd.runtime.declared import Runtime
from edgekd.runtime.options import RuntimeOptions


class RunnablePackage(Protocol):
    """An opened package: inputs and outputs by their names in it, one full batch a call.

    Attributes:
        inputs: name -> (shape, numpy type's name).
        outputs: names.
        executed_by: runtime and version.
    """

    @property
    def inputs(self) -> Mapping[str, Any]: ...

    @property
    def outputs(self) -> Iterable[str]: ...

    @property
    def executed_by(self) -> str: ...

    def __call__(self, inputs: Arrays) -> Arrays: ...


OpenPackage = Callable[[Path], RunnablePackage]


def require_core_ml() -> Any:
    """coremltools, on a machine that has Core ML.

    Raises:
        InputError: one of the two is missing.
    """
    if not COREML.executes_here():
        raise InputError("Core ML exports must be run on macOS", sys.platform)
    try:
        import coremltools
    except ImportError:
        raise COREML.not_installed() from None
    return coremltools


class CoreMlPackage:
    """A package that Core ML runs. Written to Apple's documentation; not executed on Linux."""

    def __init__(self, package: Path) -> None:
        import platform

        coremltools = require_core_ml()
        try:
            self._model = coremltools.models.MLModel(
                str(package), compute_units=coremltools.ComputeUnit.ALL
            )
        except Exception as error:  # Core ML's own have no common base
            raise unusable(package, "Core ML", error) from None
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


class PackagedPart:
    """A written part under edgekd's names and shapes, any batch.

    Batches are cut into the package's fixed one; the last is filled up with its last row.

    Attributes:
        inputs, outputs: edgekd's names; outputs that Apple's package does not read are left out.
        executed_by: what computes the outputs.
    """

    partial = True

    def __init__(self, folder: Path, component: str, open_package: OpenPackage) -> None:
        self._layout = read_layout(folder, component)
        path = package_path(folder, self._layout)
        if not path.is_dir():
            raise InputError(f"`{folder}` must hold {path.name}", "a folder without it")
        self._package = open_package(path)
        self._check_names()
        self.inputs = tuple(self._layout.inputs)
        self.outputs = tuple(self._layout.outputs)
        self.executed_by = self._package.executed_by

    def _check_names(self) -> None:
        wanted = (set(self._layout.inputs.values()), set(self._layout.outputs.values()))
        found = (set(self._package.inputs), set(self._package.outputs))
        if wanted != found:
            raise InputError(
                f"`{self._layout.package}` must have the inputs and outputs {wanted}", str(found)
            )

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        size = self._layout.batch
        count = max(array.shape[0] for array in inputs.values() if array.ndim)
        rows = [self._run(inputs, range(at, at + size), count) for at in range(0, count, size)]
        return {
            name: np.concatenate([row[apple] for row in rows])[:count]
            for name, apple in self._layout.outputs.items()
        }

    def _run(self, inputs: Mapping[str, Array], indices: range, count: int) -> Arrays:
        taken = [min(index, count - 1) for index in indices]
        batch = {name: array[taken] if array.ndim else array for name, array in inputs.items()}
        return self._package(self._layout.to_apple(batch))


class CoreMlBackend:
    """See `edgekd.runtime.backend.Backend`. Core ML chooses its own threads and arithmetic.

    Args:
        open_package: None: Core ML.
    """

    def __init__(self, folder: Path, open_package: OpenPackage | None = None) -> None:
        if open_package is None:
            require_core_ml()
        self._folder, self._open = folder, open_package or CoreMlPackage
        self._parts: dict[str, PackagedPart] = {}

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        part = self._part(component)
        return part({name: given(inputs, name, component) for name in part.inputs})

    def load(self, component: str) -> None:
        self._part(component)

    def _part(self, component: str) -> PackagedPart:
        if component not in self._parts:
            self._parts[component] = PackagedPart(self._folder / component, component, self._open)
        return self._parts[component]


def _open(folder: Path, options: RuntimeOptions) -> CoreMlBackend:
    del options
    return CoreMlBackend(folder)


COREML = Runtime("coreml", ("coremltools",), "edgekd[coreml]", _open, platform="darwin")
