"""Run an exported ONNX folder: optimum's pipeline, with session options chosen by measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime

from edgekd.errors import InputError
from edgekd.libraries import diffusers

PROVIDER = "CPUExecutionProvider"
MODEL_FILE = "model.onnx"


def session_options(threads: int = 0) -> Any:
    """Options of every onnxruntime session that edgekd opens.

    Args:
        threads: threads inside an operator; 0: one per physical core.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return options


def load_onnx_pipeline(path: Path, threads: int = 0) -> Any:
    """Load an exported folder as optimum's `ORTStableDiffusionPipeline` (or its XL form).

    Raises:
        InputError: the folder is no ONNX pipeline.
    """
    missing = [
        name for name in ("model_index.json", f"unet/{MODEL_FILE}") if not (path / name).is_file()
    ]
    if missing:
        raise InputError(
            "the folder must be an exported ONNX pipeline", f"{path} without {', '.join(missing)}"
        )
    from optimum.onnxruntime import ORTDiffusionPipeline

    with _quiet_diffusers():
        pipeline = ORTDiffusionPipeline.from_pretrained(
            path, export=False, provider=PROVIDER, session_options=session_options(threads)
        )
    for encoder in (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)):
        if encoder is not None:
            # optimum reads it through a deprecated way, with a warning.
            encoder.num_hidden_layers = encoder.config.num_hidden_layers
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextlib.contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Hold back the notice that there is no safety checker: optimum's pipelines have none."""
    logging = diffusers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
