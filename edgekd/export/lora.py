"""Fuse LoRAs into a pipeline before it is exported.

    W' = W + sum of weight * alpha / r * B A        (Hu et al. 2021, equation 3)

diffusers and peft read the files and do the sum; LoHa, LoKr and kohya's DoRA are not read by them
and are summed by `edgekd.export.lycoris`. What the libraries only warn of is an error here: a file
whose tensors have no place in the pipeline would else be exported as if it had been applied.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError

# The two factors of a layer, as peft (A, B), diffusers and kohya (down, up) name them.
# DoRA's third is not among them: see `_MAGNITUDE`.
_FACTOR = re.compile(
    r"(?P<layer>.+?)(?:[._]lora(?:_linear_layer)?\.|\.lora_)(?P<factor>A|B|down|up)\.weight"
)
# Only kohya's files have the scale of a layer as a tensor that diffusers reads.
_ALPHA = re.compile(r"(?P<layer>lora_(?:unet|te|te1|te2)_.+)\.alpha")
_MAGNITUDE = re.compile(r"(?P<layer>.+?)\.lora_magnitude_vector(?:\.weight)?")
_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_OTHER_KINDS = {
    "dora_scale": "DoRA in other names than kohya's",
    "hada_": "LoHa in other names than kohya's",
    "lokr_": "LoKr in other names than kohya's",
    "lora_mid": "LoCon with a middle factor (Tucker)",
    "oft_": "OFT",
    "diff": "full differences",
}


@dataclass(frozen=True)
class Lora:
    """A LoRA file, and the factor that its change of the weights is multiplied by."""

    path: Path
    weight: float = 1.0


def parse_lora(text: str) -> Lora:
    """`FILE` or `FILE:0.7`.

    Raises:
        InputError: a weight that is no number other than 0.
    """
    name, colon, number = text.rpartition(":")
    if Path(text).is_file() or not colon:
        return Lora(Path(text))
    try:
        weight = float(number)
    except ValueError:
        # A name with a colon in it, of a file that is not there.
        return Lora(Path(text))
    if not math.isfinite(weight) or weight == 0:
        raise InputError("the weight of `--lora FILE:WEIGHT` must be finite and not 0", number)
    return Lora(Path(name), weight)


def check_loras(loras: Iterable[Lora]) -> None:
    """Check LoRA files and what it takes to read them, before any work.

    Raises:
        InputError: no safetensors file, no LoRA, or peft is not installed.
    """
    for lora in loras:
        _check_lora(lora.path)
        if importlib.util.find_spec("peft") is None:
            raise InputError(
                "`--lora` needs the package peft",
                "no module named `peft`",
                "Install it: pip install 'edgekd[lora]'",
            )


def _check_lora(path: Path) -> None:
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(
            "`--lora` must be a .safetensors file, pickles are never loaded",
            str(path) if path.is_file() else f"no file {path}",
        )
    from edgekd.diffusion.weights import read_headers
    from edgekd.export.lycoris import is_lycoris, layers_of

    names = list(read_headers([path]))
    if is_lycoris(names):
        layers_of(names)
        return
    layers = count_layers(names)
    if not layers:
        raise InputError("`--lora` must hold LoRA tensors", f"none in {path}")
    # diffusers would drop what it does not know, and fuse the rest.
    if other := [name for name in names if not _is_known(name, layers)]:
        raise InputError(
            "every tensor of `--lora` must be a LoRA's",
            f"`{other[0]}`{_kind(other[0])} and {len(other) - 1} others in {path.name}",
            "Convert it to a plain LoRA first.",
        )
    halves = [layer for layer, factors in layers.items() if len(factors) != 2]
    if halves:
        raise InputError(
            "every layer of `--lora` must have two factors",
            f"{len(layers[halves[0]])} of `{halves[0]}` in {path.name}",
        )


def count_layers(names: Iterable[str]) -> dict[str, list[str]]:
    """Layer -> names of its factors."""
    layers: dict[str, list[str]] = {}
    for name in names:
        if match := _FACTOR.fullmatch(name):
            layers.setdefault(match["layer"], []).append(name)
    return layers


def _is_known(name: str, layers: dict[str, list[str]]) -> bool:
    if match := _ALPHA.fullmatch(name) or _MAGNITUDE.fullmatch(name):
        return match["layer"] in layers
    return _FACTOR.fullmatch(name) is not None


def _kind(name: str) -> str:
    leaf = name.rpartition(".")[2] if "." in name else name
    kinds = (kind for mark, kind in _OTHER_KINDS.items() if mark in leaf or f".{mark}" in name)
    kind = next(kinds, None)
    return f" ({kind})" if kind else ""


def fuse_loras(pipeline: Any, loras: Sequence[Lora], out: Path) -> None:
    """Fuse LoRA files into a loaded pipeline, one after the other, and save the pipeline.

    Args:
        pipeline: diffusers pipeline in float32; its weights are changed.
        loras: files that `check_loras` has passed.
        out: folder for the fused pipeline.

    Raises:
        InputError: a LoRA is of another pipeline, or its sum is not finite.
    """
    for lora in loras:
        _fuse(pipeline, lora)
    pipeline.save_pretrained(out, safe_serialization=True)


def _fuse(pipeline: Any, lora: Lora) -> None:
    from edgekd.diffusion.weights import read_headers
    from edgekd.export.lycoris import fuse_lycoris, is_lycoris

    path = lora.path
    if is_lycoris(read_headers([path])):
        fuse_lycoris(pipeline, path, lora.weight)
        return
    layers = len(count_layers(read_headers([path])))
    try:
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, use_safetensors=True, local_files_only=True
        )
        placed = _count_placed(pipeline)
        if placed == layers:
            pipeline.fuse_lora(lora_scale=lora.weight, safe_fusing=True)
            pipeline.unload_lora_weights()
    # peft and diffusers raise what they find first: ValueError, RuntimeError, KeyError, ...
    except Exception as error:
        problem = " ".join(str(error).split())[:300]
        raise InputError(
            f"the LoRA must fit the pipeline {type(pipeline).__name__}",
            f"{path.name}: {problem}",
        ) from error
    if placed != layers:
        raise InputError(
            "every layer of the LoRA must have its place in the pipeline",
            f"{placed} of {layers} layers of {path.name}",
            "It was made for another model.",
        )


def _count_placed(pipeline: Any) -> int:
    """Layers of a pipeline that a LoRA was put beside."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return sum(
        isinstance(module, BaseTunerLayer)
        for name in _COMPONENTS
        if getattr(pipeline, name, None) is not None
        for module in getattr(pipeline, name).modules()
    )
