"""onnxruntime on the CPU: `<part>/model.onnx`, or `model.ort` where only that is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.runtime.backend import Array, Arrays, missing, model_file, single, unusable

_FILES = ("model.onnx", "model.ort")
# What onnxruntime calls the types that parts are exported with.
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxBackend:
    """See `edgekd.runtime.backend.Backend`."""

    def __init__(self, folder: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing("onnxruntime", "onnx") from None
        self._runtime = onnxruntime
        self._folder = folder
        self._threads = threads
        self._sessions: dict[str, Any] = {}

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        session = self._session(component)
        feed = {
            item.name: np.asarray(inputs[item.name], _TYPES[item.type])
            for item in session.get_inputs()
        }
        names = [item.name for item in session.get_outputs()]
        values = map(single, session.run(None, feed))
        return dict(zip(names, values, strict=True))

    def _session(self, component: str) -> Any:
        if component not in self._sessions:
            path = model_file(self._folder, component, _FILES)
            options = self._runtime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            try:
                self._sessions[component] = self._runtime.InferenceSession(
                    str(path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own have no common base
                raise unusable(path, "onnxruntime", error) from None
        return self._sessions[component]
