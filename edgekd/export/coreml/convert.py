"""A captured part as a Core ML program: traced by torch, converted by coremltools."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from edgekd.export.capture import Capture
from edgekd.export.coreml.layout import AppleModule, example_tensors
from edgekd.export.coreml.library import converting, coremltools
from edgekd.export.record import Recording
from edgekd.runtime.coreml_layout import Layout

# Largest float16; activations near it become infinite on a device.
FLOAT16_LIMIT = 65504.0
# Room that other prompts and noise may need beyond what was recorded.
HEADROOM = 2.0
# What may lie between an angle's multiplication and its sine.
_ANGLE_OPS = frozenset({"expand_dims", "mul", "reshape", "cast"})


def to_coreml(
    capture: Capture,
    layout: Layout,
    target: str,
    float32: bool,
    hooks: AbstractContextManager[Any] | None = None,
) -> Any:
    """Convert one part; the weights are float16, or float32 if its arithmetic is.

    Args:
        target: deployment target, `iOS17` or `iOS18`.
        float32: compute in float32.
        hooks: changes to the module that are part of the program; active while tracing.

    Returns:
        coremltools' `MLModel`, not loaded.
    """
    examples = example_tensors(capture, layout)
    module = AppleModule(capture, layout).eval()
    with converting():
        with torch.inference_mode(), hooks or nullcontext():
            trace: Any = torch.jit.trace  # untyped
            traced = trace(module, tuple(examples.values()), strict=False, check_trace=False)
        precision = coremltools.precision.FLOAT32 if float32 else _float16_but_angles()
        return coremltools.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                coremltools.TensorType(name=name, shape=tuple(tensor.shape), dtype=np.float32)
                for name, tensor in examples.items()
            ],
            outputs=[
                coremltools.TensorType(name=name, dtype=np.float32)
                for name in layout.outputs.values()
            ],
            compute_precision=precision,
            minimum_deployment_target=getattr(coremltools.target, target),
            skip_model_load=True,
        )


def _float16_but_angles() -> Any:
    """float16 everywhere but in the sinusoidal embeddings of timesteps and sizes.

    Their angles reach 1000 rad, where float16 has steps of half a radian.
    """
    return coremltools.transform.FP16ComputePrecision(
        op_selector=lambda operation: not _leads_to_angle(operation)
    )


def _leads_to_angle(operation: Any, depth: int = 4) -> bool:
    if operation.op_type in ("sin", "cos"):
        return True
    if depth == 0 or operation.op_type not in _ANGLE_OPS:
        return False
    children = [child for output in operation.outputs for child in output.child_ops]
    return bool(children) and all(_leads_to_angle(child, depth - 1) for child in children)


def largest_activation(capture: Capture, recordings: list[Recording]) -> float:
    """Largest magnitude that any submodule gives, in float32, on the first and last recording."""
    largest = 0.0

    def look(module: Any, args: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            largest = max(largest, float(output.abs().max()))

    handles = [
        module.register_forward_hook(look)
        for module in capture.module.modules()
        if not any(module.children())
    ]
    try:
        with torch.inference_mode():
            for recording in (recordings[0], recordings[-1]):
                capture.module(*recorded_tensors(capture, recording))
    finally:
        for handle in handles:
            handle.remove()
    return largest


def recorded_tensors(capture: Capture, recording: Recording) -> tuple[torch.Tensor, ...]:
    """A recording's inputs in the captured module's order."""
    return tuple(torch.from_numpy(recording.inputs[name]) for name in capture.example_inputs)


def needs_float32(largest: float) -> bool:
    """Whether float16 arithmetic could overflow. Written so that NaN needs it too."""
    return not largest * HEADROOM < FLOAT16_LIMIT
