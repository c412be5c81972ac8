from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgekd.export.capture import Capture
from edgekd.export.onnx.attention import OPERATOR, fused_attention
from edgekd.export.onnx.exporter import OnnxRunner
from edgekd.export.onnx.graph import write_onnx
from edgekd.libraries import diffusers  # noqa: F401 - makes the next import safe

Attention = __import__("diffusers.models.attention_processor", fromlist=["Attention"]).Attention


class Layer(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = Attention(query_dim=32, heads=4, dim_head=8, **options)

    def forward(self, sample: Any, *context: Any) -> tuple[Any]:
        return (self.attention(sample, *context),)


CASES = {
    "self": ({}, {"sample": (2, 6, 32)}, 1),
    "cross": ({"cross_attention_dim": 16}, {"sample": (2, 6, 32), "context": (2, 5, 16)}, 1),
    # The VAE's: on pictures, with its own normalisation and residual.
    "picture": (
        {"norm_num_groups": 8, "residual_connection": True, "rescale_output_factor": 2.0},
        {"sample": (2, 32, 3, 4)},
        1,
    ),
    "normalised queries": ({"qk_norm": "layer_norm"}, {"sample": (2, 6, 32)}, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_exported_attention_equals_diffusers(case, tmp_path):
    options, shapes, fused = CASES[case]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Layer(**options).eval().requires_grad_(False)
        inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
        others = {name: torch.randn(3, *shape[1:]) for name, shape in shapes.items()}
    expected = module(*others.values())[0].numpy()
    axes = {name: {0: "batch_size"} for name in (*inputs, "out")}
    captured = Capture("unet", module, inputs, ("out",), axes, {})
    write_onnx(captured, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert [node.op_type for node in model.graph.node].count(OPERATOR) == fused
    output = OnnxRunner(tmp_path / "model.onnx", 1)(
        {name: value.numpy() for name, value in others.items()}
    )["out"]
    np.testing.assert_allclose(output, expected, atol=2e-6)


def test_the_source_is_left_as_it_was():
    module = Layer()
    before = module.attention.processor
    with fused_attention(module) as count:
        assert count == 1
        assert module.attention.processor is not before
    assert module.attention.processor is before
