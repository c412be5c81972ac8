"""All runtimes by name: those that this package runs, and those that other packages bring."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgekd.errors import InputError
from edgekd.runtime.coreml_backend import COREML
from edgekd.runtime.declared import Runtime
from edgekd.runtime.onnx_backend import ONNX
from edgekd.runtime.openvino_backend import OPENVINO

GROUP = "edgekd.runtimes"


def runtimes() -> dict[str, Runtime]:
    """Every runtime that is declared here or by an entry point, installed or not.

    Raises:
        InputError: an entry point that is no `Runtime`, or one that has the name of another.
    """
    found = {runtime.name: runtime for runtime in (ONNX, OPENVINO, COREML)}
    for entry_point in sorted(entry_points(group=GROUP)):
        runtime = entry_point.load()
        if not isinstance(runtime, Runtime):
            kind = type(runtime).__name__
            raise InputError(f"`{entry_point.value}` must be a Runtime", kind)
        if found.setdefault(runtime.name, runtime) != runtime:
            raise InputError("names of runtimes must be unique", f"`{runtime.name}` twice")
    return found
