"""The backend of an exported folder."""

from __future__ import annotations

from dataclasses import replace

from edgekd.errors import InputError
from edgekd.runtime.backend import Backend
from edgekd.runtime.coreml_backend import CoreMlBackend
from edgekd.runtime.folder import ExportedFolder
from edgekd.runtime.onnx_backend import OnnxBackend
from edgekd.runtime.openvino_backend import OpenVinoBackend


def open_backend(folder: ExportedFolder, threads: int = 0) -> Backend:
    """The backend of a folder's runtime.

    Args:
        threads: threads inside an operator; 0: as the folder's options say. Core ML chooses its
            own.

    Raises:
        InputError: the runtime is not installed, or has no backend here.
    """
    if threads < 0:
        raise InputError("`threads >= 0` must hold", f"threads={threads}")
    options = replace(folder.options, threads=threads or folder.options.threads)
    if folder.runtime == "onnx":
        return OnnxBackend(folder.path, options)
    if folder.runtime == "openvino":
        return OpenVinoBackend(folder.path, options)
    if folder.runtime == "coreml":
        return CoreMlBackend(folder.path)
    raise InputError(
        "the runtime of the exported folder must be onnx, openvino or coreml", folder.runtime
    )
