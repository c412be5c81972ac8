"""Draw with a large ONNX export: optimum's pipeline, one session at a time.

optimum opens a session for every part and keeps all. Here each part opens its own when it is
called, and the one before it is closed: text encoders, U-Net and decoder work one after the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from edgekd.export.large import Turns
from edgekd.export.onnx.pipeline import (
    PARTS,
    PROVIDER,
    assemble_pipeline,
    open_session,
    session_options,
    stored_options,
)


def load_onnx_in_turns(path: Path, threads: int = 0) -> Any:
    """Load an exported folder as `load_onnx_pipeline` does, with thrifty sessions in turns.

    Raises:
        InputError: the folder is no ONNX pipeline.
    """
    chosen = stored_options(path)
    # optimum reads names and types from sessions; without optimisation these touch no weights.
    outline = session_options(threads, chosen, thrifty=True)
    outline.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    pipeline = assemble_pipeline(
        path,
        chosen,
        lambda model: onnxruntime.InferenceSession(str(model), outline, providers=[PROVIDER]),
    )

    def opened(part: Any) -> None:
        part.session = open_session(part.path, threads, chosen, thrifty=True)

    turns = Turns(opened, _close)
    for name in PARTS:
        part = getattr(pipeline, name, None)
        if part is not None:
            turns.add(part)
    return pipeline


def _close(part: Any) -> None:
    part.session = None
    part._io_binding = None  # it refers to the session, and is not used on a CPU
