"""Try each part of a pipeline once: a dead one would only show after hours of training.

A part is dead when its output is not finite or does not depend on its input, as where a last
convolution is zero.
"""

from __future__ import annotations

from typing import Any

import torch

from edgekd.diffusion.components import PIPELINES
from edgekd.diffusion.load import load_model
from edgekd.diffusion.parts import part_calls
from edgekd.diffusion.validate import TeacherInfo
from edgekd.errors import InputError

_MAX_SIDE = 8  # of latents: all stages of Stable Diffusion see a pixel of it
_TOKENS = 8


def check_parts(info: TeacherInfo) -> None:
    """Run every part on two small inputs, loading one model at a time.

    Raises:
        InputError: naming the first part that is dead, or weights that are not finite.
    """
    for component in PIPELINES[info.pipeline_class].models:
        _check_model(component, load_model(info.path, component), info)


def _check_model(component: str, model: Any, info: TeacherInfo) -> None:
    side = min(_MAX_SIDE, info.latent_size)
    first, second = (part_calls(component, model, side, _TOKENS, sample) for sample in (0, 1))
    for part in first:
        outputs = first[part].run(), second[part].run()
        if not all(bool(torch.isfinite(output).all()) for output in outputs):
            problem = "NaN or infinity"
        elif torch.allclose(*outputs, rtol=1e-6, atol=0):
            problem = "the same for two inputs"
        else:
            continue
        raise InputError(
            f"the output of the {part} must be finite and depend on its input",
            f"{problem} in {info.path}",
            "Its weights are damaged or were never trained.",
        )
