"""Fuse a LoRA into a pipeline before it is exported.

    W' = W + scale * B A        (Hu et al. 2021, equation 3)

diffusers and peft read the file and do the sum; what they only warn of is an error here. A file
whose tensors have no place in the pipeline would else be exported as if it had been applied.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from edgekd.errors import InputError

# The first factor of each pair, as diffusers, peft and kohya name it.
_FIRST_FACTORS = (
    ".lora_A.",
    ".lora.down.",
    ".lora_down.",
    "_lora.down.",
    ".lora_linear_layer.down.",
)
# What belongs to a pair beside it: its second factor, and the scale of both.
_COMPANIONS = (
    ".lora_B.",
    ".lora.up.",
    ".lora_up.",
    "_lora.up.",
    ".lora_linear_layer.up.",
    ".alpha",
)
_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


def check_lora(path: Path) -> None:
    """Check a LoRA file and what it takes to read it, before any work.

    Raises:
        InputError: no safetensors file, no LoRA, or peft is not installed.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(
            "`--lora` must be a .safetensors file, pickles are never loaded",
            str(path) if path.is_file() else f"no file {path}",
        )
    if _count_pairs(path) == 0:
        raise InputError("`--lora` must hold LoRA tensors", f"none in {path}")
    # DoRA's scales, LoHa, LoKr: diffusers would drop them and fuse the rest.
    if other := _unread(path):
        raise InputError(
            "every tensor of `--lora` must be a LoRA's",
            f"`{other[0]}` and {len(other) - 1} others in {path.name}",
            "Convert it to a plain LoRA first.",
        )
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            "`--lora` needs the package peft",
            "no module named `peft`",
            "Install it: pip install 'edgekd[lora]'",
        )


def _count_pairs(path: Path) -> int:
    from edgekd.diffusion.weights import read_headers

    names = read_headers([path])
    return sum(any(mark in name for mark in _FIRST_FACTORS) for name in names)


def _unread(path: Path) -> list[str]:
    from edgekd.diffusion.weights import read_headers

    known = (*_FIRST_FACTORS, *_COMPANIONS)
    return [name for name in read_headers([path]) if not any(mark in name for mark in known)]


def fuse_lora(pipeline: Any, path: Path, out: Path) -> None:
    """Fuse a LoRA file into a loaded pipeline and save the pipeline.

    Args:
        pipeline: diffusers pipeline in float32; its weights are changed.
        path: a file that `check_lora` has passed.
        out: folder for the fused pipeline.

    Raises:
        InputError: the LoRA is of another pipeline, or its sum is not finite.
    """
    pairs = _count_pairs(path)
    try:
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, use_safetensors=True, local_files_only=True
        )
        placed = _count_placed(pipeline)
        if placed == pairs:
            pipeline.fuse_lora(safe_fusing=True)
            pipeline.unload_lora_weights()
    # peft and diffusers raise what they find first: ValueError, RuntimeError, KeyError, ...
    except Exception as error:
        problem = " ".join(str(error).split())[:300]
        raise InputError(
            f"the LoRA must fit the pipeline {type(pipeline).__name__}",
            f"{path.name}: {problem}",
        ) from error
    if placed != pairs:
        raise InputError(
            "every layer of the LoRA must have its place in the pipeline",
            f"{placed} of {pairs} layers of {path.name}",
            "It was made for another model.",
        )
    pipeline.save_pretrained(out, safe_serialization=True)


def _count_placed(pipeline: Any) -> int:
    """Layers of a pipeline that a LoRA was put beside."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return sum(
        isinstance(module, BaseTunerLayer)
        for name in _COMPONENTS
        if getattr(pipeline, name, None) is not None
        for module in getattr(pipeline, name).modules()
    )
