"""LoRAs of other kinds, in kohya's naming: LoHa, LoKr and DoRA, fused by their closed forms.

    LoHa  dW = alpha / r (A1 B1) * (A2 B2)              Hyeon-Woo et al. 2022 (FedPara), equation 2
    LoKr  dW = alpha / r kron(C, D), each whole or A B  Yeh et al. 2024 (LyCORIS), section 3
    DoRA  dW' = m (W + dW) / |W + dW| - W               Liu et al. 2024, equation 5

with the norm over the axes on which the stored magnitude m has one entry. The weight s that the
user gives scales the whole change, W + s dW, so that 0 is the pipeline as it was. A, B of a
convolution are those of its weight as a matrix [out, in k k].
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.errors import InputError

_COMPONENTS = {
    "unet": "unet",
    "te": "text_encoder",
    "te1": "text_encoder",
    "te2": "text_encoder_2",
}
_NAME = re.compile(r"lora_(?P<part>unet|te|te1|te2)_(?P<module>[^.]+)\.(?P<leaf>.+)")
_MAGNITUDE = "dora_scale"
_LOW_RANK = frozenset({"lora_up.weight", "lora_down.weight"})
_LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
_FIRST = (frozenset({"lokr_w1"}), frozenset({"lokr_w1_a", "lokr_w1_b"}))
_SECOND = (frozenset({"lokr_w2"}), frozenset({"lokr_w2_a", "lokr_w2_b"}))
_KINDS = (_LOW_RANK, _LOHA, *(one | two for one in _FIRST for two in _SECOND))
_OTHERS = frozenset({"alpha", _MAGNITUDE})
_MARKS = ("hada_", "lokr_", _MAGNITUDE)


@dataclass(frozen=True)
class LayerPlace:
    """A layer that a file changes: a part of the pipeline, and a module by kohya's name for it."""

    part: str
    module: str

    def __str__(self) -> str:
        return f"lora_{self.part}_{self.module}"


def is_lycoris(names: Iterable[str]) -> bool:
    """Whether a file holds what only this module fuses."""
    return any(_NAME.fullmatch(name) and mark in name for name in names for mark in _MARKS)


def layers_of(names: Iterable[str]) -> dict[LayerPlace, frozenset[str]]:
    """The tensors of each layer.

    Raises:
        InputError: a tensor of another kind, or a layer that lacks one.
    """
    found: dict[LayerPlace, set[str]] = defaultdict(set)
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            raise InputError("every tensor of a LoHa, LoKr or DoRA must be named as kohya's", name)
        found[LayerPlace(match["part"], match["module"])].add(match["leaf"])
    for place, leaves in found.items():
        if leaves - _OTHERS not in _KINDS:
            raise InputError(
                "a layer must have the tensors of a LoRA, a LoHa or a LoKr, and no others",
                f"{', '.join(sorted(leaves))} of `{place}`",
                "Middle factors (Tucker) and other kinds are not fused.",
            )
    return {place: frozenset(leaves) for place, leaves in found.items()}


def fuse_lycoris(pipeline: Any, path: Path, strength: float) -> None:
    """Change the weights of a pipeline in float32 as a file says.

    Raises:
        InputError: a layer has no place in the pipeline, other shapes, or its sum is not finite.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    places = layers_of(tensors)
    modules = {part: _modules(pipeline, part) for part in {place.part for place in places}}
    missing = [place for place in places if place.module not in modules[place.part]]
    if missing:
        raise InputError(
            "every layer of the LoRA must have its place in the pipeline",
            f"no `{missing[0]}`, {len(missing)} of {len(places)} layers of {path.name}",
            "It was made for another model.",
        )
    for place, leaves in places.items():
        layer = modules[place.part][place.module]
        own = {leaf: tensors[f"{place}.{leaf}"].float() for leaf in leaves}
        _change(layer.weight, own, strength, f"`{place}` in {path.name}")


def _modules(pipeline: Any, part: str) -> dict[str, Any]:
    """Layers with weights by kohya's names; a U-Net's also by those of the original layout."""
    model = getattr(pipeline, _COMPONENTS[part], None)
    if model is None:
        return {}
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    found = {name.replace(".", "_"): module for name, module in layers.items()}
    if part == "unet" and model.config.layers_per_block == 2:
        from edgekd.export.sdcpp.layout import unet_name

        attends = tuple(kind.startswith("CrossAttn") for kind in model.config.up_block_types)
        for name, module in layers.items():
            if not name.startswith("time_embedding.cond_proj"):
                original = unet_name(f"{name}.weight", 2, attends).removesuffix(".weight")
                found[original.replace(".", "_")] = module
    return found


@torch.no_grad()
def _change(weight: Tensor, own: Mapping[str, Tensor], strength: float, where: str) -> None:
    try:
        change = difference(own).reshape(weight.shape)
        if _MAGNITUDE in own:
            change = decomposed(weight + change, own[_MAGNITUDE]) - weight
        summed = weight + strength * change
    except RuntimeError as error:
        raise InputError(
            "the LoRA must fit the pipeline", f"{where}: {' '.join(str(error).split())[:200]}"
        ) from None
    if summed.shape != weight.shape or not torch.isfinite(summed).all():
        raise InputError("the sum of weights and LoRA must be finite and of their shape", where)
    weight.copy_(summed)


def difference(own: Mapping[str, Tensor]) -> Tensor:
    """The change of a layer's weight, [out, ...] in any shape of as many numbers."""
    if "lora_up.weight" in own:
        down = own["lora_down.weight"]
        return _scale(own, len(down)) * (own["lora_up.weight"].flatten(1) @ down.flatten(1))
    if "hada_w1_a" in own:
        first = own["hada_w1_a"] @ own["hada_w1_b"]
        second = own["hada_w2_a"] @ own["hada_w2_b"]
        return _scale(own, len(own["hada_w1_b"])) * first * second
    first, rank = _factor(own, "lokr_w1")
    second, other = _factor(own, "lokr_w2")
    if second.ndim == 4:
        first = first[:, :, None, None]
    # Two whole factors have no rank, and no scale.
    scale = _scale(own, rank or other) if rank or other else 1.0
    return scale * torch.kron(first.contiguous(), second.contiguous())


def _factor(own: Mapping[str, Tensor], name: str) -> tuple[Tensor, int]:
    """A factor of LoKr, and its rank; 0: it is whole."""
    if name in own:
        return own[name], 0
    low = own[f"{name}_b"]
    return own[f"{name}_a"] @ low, len(low)


def _scale(own: Mapping[str, Tensor], rank: int) -> float:
    """alpha / r; 1 where the file has no alpha."""
    return float(own["alpha"]) / rank if "alpha" in own else 1.0


def decomposed(summed: Tensor, magnitude: Tensor) -> Tensor:
    """Every direction of a weight at the length that a DoRA gives it."""
    shape = (*magnitude.shape, *(1,) * (summed.ndim - magnitude.ndim))
    magnitude = magnitude.reshape(shape)
    axes = [axis for axis, size in enumerate(shape) if size == 1 and summed.shape[axis] > 1]
    length: Tensor = torch.linalg.vector_norm(summed, dim=axes, keepdim=True)
    return magnitude * summed / length
