"""An .mlpackage folder: where its model and weights are, and the parsed model.

Paths inside a package are data: none may lead out of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekd.errors import GateError, InputError
from edgekd.export.coreml.mil.blob import BlobFile
from edgekd.reading import read_object

# The operation sets of the iOS 17 and iOS 18 deployment targets.
OPSETS = ("CoreML7", "CoreML8")
MODEL_PREFIX = "@model_path/"
FUNCTION = "main"


@dataclass
class Package:
    """A package's parsed model.

    Attributes:
        path: the .mlpackage folder.
        model_folder: folder of the model file; weight files are named relative to it.
        description: protobuf `ModelDescription`.
        function: protobuf `MIL.Function`, the program.
    """

    path: Path
    model_folder: Path
    description: Any
    function: Any
    _blobs: dict[str, BlobFile] = field(default_factory=dict)

    @property
    def block(self) -> Any:
        """The function's protobuf `Block`."""
        return self.function.block_specializations[self.function.opset]

    def blob_file(self, name: str) -> BlobFile:
        """A weight file by the name that the program gives it.

        Raises:
            InputError: the name leads out of the package, or there is no such file.
        """
        if name not in self._blobs:
            if not name.startswith(MODEL_PREFIX):
                raise InputError(f"weight file names must start with {MODEL_PREFIX}", repr(name))
            path = _inside(self.path, self.model_folder, name.removeprefix(MODEL_PREFIX))
            self._blobs[name] = BlobFile(path)
        return self._blobs[name]


def open_package(path: Path) -> Package:
    """Read the manifest and parse the model; weights stay on disk.

    Raises:
        InputError: no package, or one that is not a single ML program.
        GateError: an operation set that the evaluator does not know.
    """
    model_path = _model_path(path)
    model = _parse(model_path)
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise InputError(f"{model_path} must be an ML program", f"a model of type {kind}")
    functions = sorted(model.mlProgram.functions)
    if functions != [FUNCTION]:
        raise InputError(f"{model_path} must have one function, `{FUNCTION}`", str(functions))
    function = model.mlProgram.functions[FUNCTION]
    if function.opset not in OPSETS:
        raise GateError(
            f"the operation set of {model_path} must be one of {', '.join(OPSETS)}",
            repr(function.opset),
        )
    if function.opset not in function.block_specializations:
        raise InputError(f"{model_path} must have a body for {function.opset}", "none")
    return Package(path, model_path.parent, model.description, function)


def _model_path(path: Path) -> Path:
    """The model file that the manifest names.

    Raises:
        InputError: the manifest is missing or malformed, or leads out of the package.
    """
    manifest = path / "Manifest.json"
    if not manifest.is_file():
        raise InputError("a Core ML package must have a Manifest.json", f"{manifest} missing")
    try:
        content = read_object(manifest)
        item = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{manifest} must name its root model", repr(error)) from error
    if not isinstance(item, str):
        raise InputError(f"{manifest}: the root model's path must be a string", repr(item))
    model_path = _inside(path, path / "Data", item)
    if not model_path.is_file():
        raise InputError("the package's model file must exist", f"{model_path} missing")
    return model_path


def _inside(package: Path, base: Path, name: str) -> Path:
    """`base / name`, links resolved, which must be inside the package."""
    try:
        resolved = (base / name).resolve()
    except (OSError, ValueError) as error:
        raise InputError("paths in a package must be valid", repr(name)) from error
    if not resolved.is_relative_to(package.resolve()):
        raise InputError(f"paths in a package must stay inside {package}", repr(name))
    return resolved


def _parse(model_path: Path) -> Any:
    from coremltools import proto
    from google.protobuf.message import DecodeError

    model = proto.Model_pb2.Model()
    try:
        model.ParseFromString(model_path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{model_path} must be a Core ML model", str(error)) from error
    return model
