"""Conversion to Core ML, shared by the tests of evaluated packages."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(scope="session")
def convert() -> Callable[..., Any]:
    """`convert(module, inputs, target, precision)`: the module traced and converted to a Core ML
    model; outputs are named `output_0` and so on."""
    return _convert


def _convert(module: nn.Module, inputs: dict[str, Tensor], target: str, precision: str) -> Any:
    from edgekd.export.coreml.library import converting
    from edgekd.export.coreml.library import coremltools as ct

    module.eval().requires_grad_(False)
    with torch.no_grad(), converting():
        outputs = module(*inputs.values())
        traced = torch.jit.trace(module, tuple(inputs.values()), strict=False, check_trace=False)
        count = 1 if isinstance(outputs, Tensor) else len(outputs)
        return ct.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                ct.TensorType(
                    name=name,
                    shape=tuple(x.shape),
                    dtype=np.float32 if x.is_floating_point() else np.int32,
                )
                for name, x in inputs.items()
            ],
            outputs=[
                ct.TensorType(name=f"output_{index}", dtype=np.float32) for index in range(count)
            ],
            compute_precision=ct.precision[precision],
            minimum_deployment_target=ct.target[target],
            skip_model_load=True,
        )
