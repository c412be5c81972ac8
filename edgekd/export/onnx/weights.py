"""The weights of an ONNX graph: which axis has the output channels, and how they are replaced."""

from __future__ import annotations

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

# Which input of an operator is a weight, by operator.
_POSITIONS = {"Conv": 1, "MatMul": 1, "Gemm": 1, "Gather": 0}


def channel_axes(model: ModelProto) -> dict[str, int]:
    """Name -> output-channel axis of constants that all their users take as weights, alike."""
    ranks = {
        tensor.name: len(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2
    }
    uses: dict[str, set[int | None]] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in ranks:
                is_weight = _POSITIONS.get(node.op_type) == position
                axis = _output_axis(node, ranks[name]) if is_weight else None
                uses.setdefault(name, set()).add(axis)
    axes = {name: next(iter(found)) for name, found in uses.items() if len(found) == 1}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _output_axis(node: NodeProto, rank: int) -> int:
    """Conv [O,I,kh,kw] and embedding tables [V,D]: 0; MatMul [I,O]: last; Gemm: as transposed."""
    if node.op_type in ("Conv", "Gather"):
        return 0
    transposed = any(item.name == "transB" and item.i for item in node.attribute)
    return 0 if transposed else rank - 1


def replace_weights(
    graph: GraphProto, constants: list[TensorProto], restore: list[NodeProto]
) -> None:
    """Give a graph other constants, and the nodes that make its weights of them."""
    nodes = [*restore, *graph.node]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.node[:]
    graph.node.extend(nodes)
