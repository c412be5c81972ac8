"""Run an exported OpenVINO folder: single parts, and optimum-intel's pipeline."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import InputError
from edgekd.export.large import Turns
from edgekd.export.openvino.graph import (
    MODEL_FILE,
    TIMESTEP,
    open_model,
    read_model,
    saved_precision,
)
from edgekd.export.openvino.libraries import openvino
from edgekd.export.record import Arrays
from edgekd.libraries import diffusers
from edgekd.reading import Fields
from edgekd.runtime.openvino_backend import EXACT, properties
from edgekd.runtime.options import RuntimeOptions, read_options

DEVICE = "CPU"
# Parts that drawing needs; the VAE's encoder is compiled when it is first called.
_DRAWING_PARTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")


class OpenVinoRunner:
    """One part, compiled for the CPU."""

    partial = False

    def __init__(self, folder: Path, arithmetic: str, threads: int = 0, **more: Any) -> None:
        model = open_model(folder)
        self.inputs = tuple(port.get_any_name() for port in model.inputs)
        self.outputs = tuple(port.get_any_name() for port in model.outputs)
        core = openvino.Core()
        self._compiled = core.compile_model(model, DEVICE, properties(arithmetic, threads, **more))
        computed = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.executed_by = f"openvino {openvino.__version__.split('-')[0]} {DEVICE} {computed}"

    def __call__(self, inputs: Arrays) -> Arrays:
        fed = {
            name: np.reshape(value, 1) if name == TIMESTEP else value
            for name, value in inputs.items()
        }
        results = self._compiled(fed)
        return {name: np.array(results[name]) for name in self.outputs}


def default_arithmetic(precision: str) -> str:
    """What an export computes in unless a measurement chose otherwise (`openvino_tune`).

    An fp32 export stays float32 throughout. The others take bf16 where the CPU has it, which is
    what OpenVINO itself does.
    """
    return EXACT if precision == "fp32" else deployed_arithmetic()


def deployed_arithmetic() -> str:
    """What OpenVINO's clients compute in on this CPU, unless told otherwise."""
    capabilities = openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else EXACT


def stored_options(path: Path, component: str = "unet") -> RuntimeOptions:
    """Runtime options of an exported folder: those that were measured, else the defaults."""
    manifest_file = path / "manifest.json"
    if manifest_file.is_file():
        return read_options(Fields.read(manifest_file))
    exact = saved_precision(read_model(path / component)) == "fp32"
    return RuntimeOptions(arithmetic=EXACT if exact else None)


def load_openvino_pipeline(path: Path, threads: int = 0) -> Any:
    """Load an exported folder as optimum-intel's `OVStableDiffusionPipeline` (or XL, LCM).

    Args:
        threads: 0: the number that was measured best, else one per physical core.

    Raises:
        InputError: the folder is no OpenVINO pipeline.
    """
    pipeline = _assemble(path, threads)
    with _quiet():
        for part in _parts(pipeline):
            part.compile()
    return pipeline


def load_openvino_in_turns(path: Path, threads: int = 0) -> Any:
    """The same pipeline with one part at a time in memory; see `edgekd.export.large`.

    Raises:
        InputError: as `load_openvino_pipeline`.
    """
    pipeline = _assemble(path, threads)

    def closed(part: Any) -> None:
        part.clear_requests()
        # What was read of a file's weights stays in memory as long as the model that maps it.
        folder = path / part.model_name
        part.model = open_model(folder)

    turns = Turns(lambda part: part.compile(), closed)
    for part in _parts(pipeline):
        turns.add(part)
    return pipeline


def _parts(pipeline: Any) -> list[Any]:
    found = (getattr(pipeline, name, None) for name in _DRAWING_PARTS)
    return [part for part in found if part is not None]


def _assemble(path: Path, threads: int) -> Any:
    """optimum-intel's pipeline of an exported folder, nothing compiled."""
    needed = ("model_index.json", f"unet/{MODEL_FILE}")
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise InputError(
            "the folder must be an exported OpenVINO pipeline", f"{path} without {missing[0]}"
        )
    options = stored_options(path)
    with _quiet():
        from optimum.intel import OVDiffusionPipeline

        pipeline = OVDiffusionPipeline.from_pretrained(
            path,
            compile=False,
            ov_config=_options(options, threads),
            local_files_only=True,
            # In place of the file's own, so that fractions of timesteps are not cut off.
            unet=open_model(path / "unet"),
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _options(stored: RuntimeOptions, threads: int) -> dict[str, Any]:
    arithmetic = stored.arithmetic or deployed_arithmetic()
    return properties(arithmetic, threads or stored.threads, NUM_STREAMS=stored.streams)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back notices of what an export has not: safety checker, optimum's own metadata."""
    verbosity = diffusers.utils.logging.get_verbosity()
    level = logging.root.manager.disable
    diffusers.utils.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        diffusers.utils.logging.set_verbosity(verbosity)
