"""onnxruntime on the CPU: `<part>/model.onnx`, or `model.ort` where only that is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import InputError
from edgekd.runtime.backend import (
    Array,
    Arrays,
    check_inputs,
    failed,
    given,
    model_file,
    single,
    unusable,
)
from edgekd.runtime.declared import Runtime
from edgekd.runtime.options import RuntimeOptions

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

    def __init__(self, folder: Path, options: RuntimeOptions) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ONNX.not_installed() from None
        self._runtime = onnxruntime
        self._folder = folder
        self._options = options
        self._sessions: dict[str, Any] = {}

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        session = self._session(component)
        names = [item.name for item in session.get_outputs()]
        try:
            feed = {
                item.name: np.asarray(given(inputs, item.name, component), _TYPES[item.type])
                for item in session.get_inputs()
            }
            values = map(single, session.run(None, feed))
        except InputError:
            raise
        except Exception as error:  # onnxruntime's own have no common base
            raise failed(component, "onnxruntime", error) from None
        return dict(zip(names, values, strict=True))

    def load(self, component: str) -> None:
        self._session(component)

    def _session(self, component: str) -> Any:
        if component not in self._sessions:
            path = model_file(self._folder, component, _FILES)
            try:
                session = self._runtime.InferenceSession(
                    str(path), self._session_options(), providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's own have no common base
                raise unusable(path, "onnxruntime", error) from None
            check_inputs(path, component, (item.name for item in session.get_inputs()))
            self._sessions[component] = session
        return self._sessions[component]

    def _session_options(self) -> Any:
        chosen = self._options
        level = f"ORT_ENABLE_{chosen.optimization.upper()}"
        options = self._runtime.SessionOptions()
        options.graph_optimization_level = getattr(self._runtime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = chosen.threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = chosen.memory_pattern
        options.enable_cpu_mem_arena = chosen.arena
        options.log_severity_level = 3  # errors alone
        return options


ONNX = Runtime("onnx", ("onnxruntime", "onnx", "optimum", "optimum-onnx"), backend=OnnxBackend)
