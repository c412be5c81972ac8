"""Conversion to Core ML, shared by the tests of evaluated packages."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(scope="session")
def convert() -> Iterator[Callable[..., Any]]:
    """`convert(module, inputs, target, precision)`: the module traced and converted to a Core ML
    model; outputs are named `output_0` and so on."""
    import edgekd.export.coreml.library  # noqa: F401, which loads coremltools

    # coremltools collects garbage in every conversion; what is there already need not be searched
    # each time.
    gc.collect()
    gc.freeze()
    yield _convert
    gc.unfreeze()


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
