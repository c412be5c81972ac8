"""EfficientNet-Lite0 without its classifier, for a perceptual loss and for the feature extractor.

Architecture: EfficientNet (Tan and Le, 2019, arXiv:1905.11946), in the Lite variant: no squeeze
and excitation, ReLU6 for every activation. The batch norms of the published weights are folded
into the convolutions (see `tools.starter.convert_features`), so that every layer is a biased
convolution. Convolutions pad as TensorFlow's "SAME" does: an odd pixel goes to the right and
bottom.

Shapes: N images, HxW pixels; level l has C_l channels at stride s_l:
    level     0   1   2    3    4
    stride    2   4   8   16   32
    channels 16  24  40  112  320
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.errors import InputError
from edgekd.metrics.features import FEATURES_ONNX, read_model

POOLED_CHANNELS = 1280


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
# Index of the block that ends each level: the last one before the next halving.
LEVEL_BLOCKS = (0, 2, 4, 10, 15)
LEVEL_CHANNELS = (16, 24, 40, 112, 320)


class TrunkOutput(NamedTuple):
    """`maps`: level outputs [N,C_l,H/s_l,W/s_l]; `pooled`: [N,1280] mean over positions."""

    maps: list[Tensor]
    pooled: Tensor


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding (before, after) of one axis: ceil(size / stride) outputs."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution with SAME padding, whatever the size of the input."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        width = same_padding(x.shape[-1], kernel, stride)
        padding = [*width, *same_padding(x.shape[-2], kernel, stride)]
        if padding == [padding[0]] * 4:
            return F.conv2d(x, self.weight, self.bias, stride, padding[0], groups=self.groups)
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise kxk, project 1x1 (linear); residual where shapes allow."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if stage.expansion != 1:
            layers["expand"] = nn.Conv2d(inputs, hidden, 1)
            layers["expand_activation"] = nn.ReLU6()
        layers["depthwise"] = SameConv2d(hidden, hidden, stage.kernel, stride, groups=hidden)
        layers["depthwise_activation"] = nn.ReLU6()
        layers["project"] = nn.Conv2d(hidden, stage.channels, 1)
        self.layers = nn.Sequential(layers)
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The trunk: stem, 16 inverted residuals, 1x1 head, global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                self.blocks.append(InvertedResidual(channels, stage, stride))
                channels = stage.channels
        self.head = nn.Conv2d(channels, POOLED_CHANNELS, 1)

    def forward(self, images: Tensor) -> TrunkOutput:
        """Features of images.

        Args:
            images: [N,3,H,W] in [-1,1]; H and W at least 32 for every level to have a position.
        """
        # The published weights expect (x * 255 - 127) / 128 for x in [0,1].
        x = (images * 127.5 + 0.5) / 128
        x = F.relu6(self.stem(x))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LEVEL_BLOCKS:
                maps.append(x)
        return TrunkOutput(maps, F.relu6(self.head(x)).mean(dim=(2, 3)))


def load_trunk(path: Path = FEATURES_ONNX) -> EfficientNetLite0:
    """The shipped trunk, frozen, in eval mode, fp32, differentiable in its input.

    The weights are read from the initialisers of the feature extractor's ONNX file, where they
    carry the names of this module's parameters.

    Raises:
        InputError: the file is missing or damaged, or its initialisers are not this trunk's.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(read_model(path)).graph
    trunk = EfficientNetLite0()
    expected = trunk.state_dict()
    found = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy()).float()
        for item in graph.initializer
        if item.name in expected
    }
    wrong = [
        name for name in expected if name not in found or found[name].shape != expected[name].shape
    ]
    if wrong:
        raise InputError(
            f"`{path.name}` must hold EfficientNet-Lite0", f"no fitting tensor for {wrong[0]}"
        )
    trunk.load_state_dict(found)
    return trunk.eval().requires_grad_(False)
