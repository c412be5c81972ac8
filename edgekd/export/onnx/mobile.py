"""ORT format, for onnxruntime's mobile packages: `model.ort`.

A flat buffer that a phone maps and runs as it is, without an ONNX parser or graph optimisation:
what can be optimised for every processor is done here. The weights are inside, up to 2 GB.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from edgekd.errors import InputError
from edgekd.export.onnx.graph import PROTOBUF_LIMIT_BYTES
from edgekd.export.onnx.pipeline import PROVIDER


def to_ort_format(source: Path, target: Path) -> None:
    """Convert an ONNX file.

    Raises:
        InputError: the model is too large for the format.
    """
    size = sum(item.stat().st_size for item in source.parent.iterdir())
    if size >= PROTOBUF_LIMIT_BYTES:
        raise InputError(
            f"a part in ORT format must be smaller than {PROTOBUF_LIMIT_BYTES} bytes",
            f"{size} bytes",
            "Export the precision ort-int8.",
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The level above lays tensors out for the processor at hand.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(source), options, providers=[PROVIDER])
