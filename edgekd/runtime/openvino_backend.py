"""OpenVINO on the CPU: `<part>/openvino_model.xml` and `.bin`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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

EXACT = "f32"
_FILES = ("openvino_model.xml",)
_TIMESTEP = "timestep"


def properties(
    arithmetic: str | None, threads: int = 0, own: str = "", **more: Any
) -> dict[str, Any]:
    """Options of every model that edgekd compiles for a CPU.

    Args:
        arithmetic: `f32` or `bf16`; a CPU without bf16 computes in f32 either way. None: as
            OpenVINO chooses.
        threads: 0: one per physical core.
        own: what OpenVINO chooses.
    """
    # Pinned, the threads of every process sit on the same cores, and two take twice the time.
    chosen = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False, **more}
    if arithmetic is not None:
        chosen["INFERENCE_PRECISION_HINT"] = arithmetic
    if (arithmetic or own) == EXACT:
        # Or some CPUs round the inputs of products with compressed weights to 8 bits: that is not
        # the arithmetic of the manifest's parity.
        chosen["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    if threads:
        chosen["INFERENCE_NUM_THREADS"] = threads
    return chosen


class OpenVinoBackend:
    """See `edgekd.runtime.backend.Backend`."""

    def __init__(self, folder: Path, options: RuntimeOptions) -> None:
        try:
            import openvino
        except ImportError:
            raise OPENVINO.not_installed() from None
        self._openvino = openvino
        self._core = openvino.Core()
        self._folder = folder
        self._options = properties(
            options.arithmetic,
            options.threads,
            self._own_arithmetic(),
            NUM_STREAMS=options.streams,
        )
        self._models: dict[str, Any] = {}

    def _own_arithmetic(self) -> str:
        """What OpenVINO chooses here."""
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return "bf16" if "BF16" in capabilities else "f32"

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        model = self._model(component)
        feed = {
            name: _as_port(port, given(inputs, name, component))
            for port, name in _named(model.inputs)
        }
        try:
            results = model(feed)
        except RuntimeError as error:
            raise failed(component, "OpenVINO", error) from None
        # Copies: the runtime writes the next results into the same memory.
        return {name: single(np.array(results[port])) for port, name in _named(model.outputs)}

    def load(self, component: str) -> None:
        self._model(component)

    def _model(self, component: str) -> Any:
        if component not in self._models:
            path = model_file(self._folder, component, _FILES)
            try:
                model = self._core.read_model(path)
                self._take_fractions(model)
                opened = self._core.compile_model(model, "CPU", self._options)
            except RuntimeError as error:
                raise unusable(path, "OpenVINO", error) from None
            check_inputs(path, component, (name for _, name in _named(opened.inputs)))
            self._models[component] = opened
        return self._models[component]

    def _take_fractions(self, model: Any) -> None:
        """Euler's timesteps are fractions; OpenVINO's other clients hand over integers, for which
        exports have an integer input that is converted first. Leave that conversion out."""
        port = next((port for port, name in _named(model.inputs) if name == _TIMESTEP), None)
        if port is None or not port.get_element_type().is_integral():
            return
        old = port.get_node()
        casts = [user.get_node() for user in old.output(0).get_target_inputs()]
        if any(not cast.get_output_element_type(0).is_real() for cast in casts):
            return  # the model computes with the integer itself
        real = self._openvino.Type.f32
        new = self._openvino.opset13.parameter(port.get_partial_shape(), real, name=_TIMESTEP)
        for cast in casts:
            value = self._openvino.opset13.convert(new, cast.get_output_element_type(0))
            for user in cast.output(0).get_target_inputs():
                user.replace_source_output(value.output(0))
        new.output(0).get_tensor().set_names({_TIMESTEP})
        model.remove_parameter(old)
        model.add_parameters([new])
        model.validate_nodes_and_infer_types()


def _named(ports: Any) -> list[tuple[Any, str]]:
    return [(port, port.get_any_name()) for port in ports]


def _as_port(port: Any, value: Array) -> Array:
    """Cast to the port's type; a single number takes the rank that the port has."""
    array = np.asarray(value, port.get_element_type().to_dtype())
    rank = len(port.get_partial_shape())
    return array.reshape((1,) * rank) if array.ndim == 0 else array


OPENVINO = Runtime(
    "openvino",
    ("openvino", "openvino-genai", "openvino-tokenizers", "nncf", "optimum-intel"),
    "edgekd[openvino]",
    OpenVinoBackend,
)
