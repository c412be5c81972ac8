"""The models of an exported folder in the runtime that they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.runtime.folder import ExportedFolder

Array = npt.NDArray[Any]


class Backend(Protocol):
    """Runs the parts of one exported folder; a part is opened when it is first used."""

    def inputs(self, component: str) -> tuple[str, ...]:
        """Input names of a part (`"unet"`)."""

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, float32. Inputs are cast to what the part was exported with."""


def open_backend(folder: ExportedFolder, threads: int = 0) -> Backend:
    """The backend of a folder's runtime.

    Args:
        threads: threads inside an operator; 0: what the runtime chooses.

    Raises:
        InputError: the runtime is not installed, or has no backend here.
    """
    if threads < 0:
        raise InputError("`threads >= 0` must hold", f"threads={threads}")
    if folder.runtime == "onnx":
        return OnnxBackend(folder.path, threads)
    if folder.runtime == "openvino":
        return OpenVinoBackend(folder.path, folder.precision, threads)
    raise InputError(
        "the runtime of the exported folder must be onnx or openvino to be run from Python",
        folder.runtime,
        "Core ML exports are run by Apple's Swift package StableDiffusion."
        if folder.runtime == "coreml"
        else "",
    )


def _missing(package: str, extra: str) -> InputError:
    return InputError(
        f"{package} must be installed to run this folder",
        "no such package",
        f"Run `pip install 'edgekd-runtime[{extra}]'` or `pip install {package}`.",
    )


def _model_file(folder: Path, component: str, names: tuple[str, ...]) -> Path:
    """The first of a part's model files that is there."""
    for name in names:
        path = folder / component / name
        if path.is_file():
            return path
    raise InputError(
        f"`{folder / component}` must hold {' or '.join(names)}", "a folder without it"
    )


def _single(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values


# What onnxruntime calls the types that parts are exported with.
_ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxBackend:
    """onnxruntime on the CPU: `<part>/model.onnx`, or `model.ort` where only that is there."""

    FILES = ("model.onnx", "model.ort")

    def __init__(self, folder: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise _missing("onnxruntime", "onnx") from None
        self._runtime = onnxruntime
        self._folder = folder
        self._threads = threads
        self._sessions: dict[str, Any] = {}

    def _session(self, component: str) -> Any:
        if component not in self._sessions:
            path = _model_file(self._folder, component, self.FILES)
            options = self._runtime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            try:
                self._sessions[component] = self._runtime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own have no common base
                raise _unusable(path, "onnxruntime", error) from None
        return self._sessions[component]

    def inputs(self, component: str) -> tuple[str, ...]:
        return tuple(item.name for item in self._session(component).get_inputs())

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        session = self._session(component)
        feed = {
            item.name: np.asarray(inputs[item.name], _ONNX_TYPES[item.type])
            for item in session.get_inputs()
        }
        names = [item.name for item in session.get_outputs()]
        return {
            name: _single(value) for name, value in zip(names, session.run(None, feed), strict=True)
        }


class OpenVinoBackend:
    """OpenVINO on the CPU: `<part>/openvino_model.xml` and `.bin`."""

    FILES = ("openvino_model.xml",)

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        try:
            import openvino
        except ImportError:
            raise _missing("openvino", "openvino") from None
        self._core = openvino.Core()
        self._folder = folder
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            # Its default is bf16 where the processor has it, which is not what was exported.
            self._options["INFERENCE_PRECISION_HINT"] = "f32"
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._models: dict[str, Any] = {}

    def _model(self, component: str) -> Any:
        if component not in self._models:
            path = _model_file(self._folder, component, self.FILES)
            try:
                self._models[component] = self._core.compile_model(path, "CPU", self._options)
            except RuntimeError as error:
                raise _unusable(path, "OpenVINO", error) from None
        return self._models[component]

    def inputs(self, component: str) -> tuple[str, ...]:
        return tuple(port.get_any_name() for port in self._model(component).inputs)

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        model = self._model(component)
        feed = {
            port.get_any_name(): np.asarray(
                inputs[port.get_any_name()], port.get_element_type().to_dtype()
            )
            for port in model.inputs
        }
        results = model(feed)
        # Copies: the runtime writes the next results into the same memory.
        return {port.get_any_name(): _single(np.array(results[port])) for port in model.outputs}


def _unusable(path: Path, runtime: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"`{path}` must be a model that {runtime} can open", reason)
