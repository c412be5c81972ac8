"""What values the inside of a model takes on recorded inputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from edgekd.export.large import is_large
from edgekd.export.onnx.graph import copy_model, load_typed
from edgekd.export.onnx.pipeline import MODEL_FILE, open_session
from edgekd.export.record import Recording


def largest_values(
    source: Path, recordings: list[Recording], scratch: Path, threads: int
) -> dict[str, float]:
    """Largest absolute value of every float32 value that a node gives.

    Args:
        source: model file.
        recordings: real inputs; all are run.
        scratch: folder for temporary files; they can be as large as the model.
    """
    probe = load_typed(source, weights=False)
    names = _probe(probe)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=scratch) as folder:
        path = Path(folder) / MODEL_FILE
        copy_model(source.parent, path.parent)
        onnx.save_model(probe, path)
        del probe
        session = open_session(path, threads, thrifty=is_large(source.parent), in_order=True)
        largest = np.zeros(len(names), np.float32)
        for recording in recordings:
            # Unlike max(), maximum() keeps NaN.
            largest = np.maximum(largest, np.array(session.run(None, recording.inputs)))
    return dict(zip(names, largest.tolist(), strict=True))


def _probe(model: ModelProto) -> list[str]:
    """Let a model give the largest magnitude of every float32 value in place of its outputs.

    Each stands next to its value, so that no value waits for it in memory.

    Returns:
        The values' names, in the order of the new outputs.
    """
    floats = {
        item.name
        for item in (*model.graph.value_info, *model.graph.output)
        if item.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    nodes = []
    names: list[str] = []
    del model.graph.output[:]
    for node in model.graph.node:
        nodes.append(node)
        for name in node.output:
            if name not in floats:
                continue
            probe = f"probe.{len(names)}"
            nodes.append(helper.make_node("Abs", [name], [f"{probe}.abs"]))
            nodes.append(helper.make_node("ReduceMax", [f"{probe}.abs"], [probe], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(probe, TensorProto.FLOAT, []))
            names.append(name)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return names
