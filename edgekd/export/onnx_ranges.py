"""What values the inside of a model takes on recorded inputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

from edgekd.export.onnx_graph import save_model
from edgekd.export.onnx_pipeline import MODEL_FILE, PROVIDER, session_options
from edgekd.export.record import Recording


def largest_values(
    model: ModelProto, recordings: list[Recording], scratch: Path, threads: int
) -> dict[str, float]:
    """Largest absolute value of every float32 value that a node gives.

    Args:
        model: with the types of its values (`load_typed`).
        recordings: real inputs; all are run.
        scratch: folder for temporary files; they can be as large as the model.
    """
    floats = {
        item.name
        for item in (*model.graph.value_info, *model.graph.output)
        if item.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    names = [name for node in model.graph.node for name in node.output if name in floats]
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    for index, name in enumerate(names):
        probe.graph.node.append(helper.make_node("Abs", [name], [f"probe.{index}.abs"]))
        probe.graph.node.append(
            helper.make_node("ReduceMax", [f"probe.{index}.abs"], [f"probe.{index}"], keepdims=0)
        )
        probe.graph.output.append(
            helper.make_tensor_value_info(f"probe.{index}", TensorProto.FLOAT, [])
        )
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=scratch) as folder:
        path = Path(folder) / MODEL_FILE
        save_model(probe, path)
        del probe
        session = onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=[PROVIDER]
        )
    largest = np.zeros(len(names), np.float32)
    for recording in recordings:
        # Unlike max(), maximum() keeps NaN.
        largest = np.maximum(largest, np.array(session.run(None, recording.inputs)))
    return dict(zip(names, largest.tolist(), strict=True))
