"""Which weights of a pipeline can be stored in fewer bits, under the names that torch gives them.

Names are those of the diffusers component (`unet`, `vae`, `text_encoder`, `text_encoder_2`), so
that they hold for every pipeline of the same architecture.

Shapes: O output channels (rows of an embedding table); they are always the first axis.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgekd.export.bits.storage import WeightStorage
from edgekd.export.capture import Capture
from edgekd.export.outline import PIPELINE_ATTRIBUTES, component_names

# Tensor name -> bits; None: stored as the runtime's float.
Bits = dict[str, int | None]

_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv2d, "conv"),
    (nn.Linear, "linear"),
    (nn.Embedding, "embedding"),
)
# Which tensors of a VAE belong to which part.
_VAE_PARTS = {
    "vae_encoder": ("encoder.", "quant_conv."),
    "vae_decoder": ("decoder.", "post_quant_conv."),
}


@dataclass(frozen=True)
class Weight:
    """One weight: `kind` is `conv`, `linear` or `embedding`; `shape` is [O, ...]."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Unit:
    """Tensors that get the same number of bits.

    Attributes:
        component: part of the pipeline, as diffusers calls it.
        name: common part of the tensors' names.
        choices: bits that can be chosen, most first.
    """

    component: str
    name: str
    weights: tuple[Weight, ...]
    choices: tuple[int, ...]

    def bits(self, bits: int | None) -> Bits:
        return {weight.name: bits for weight in self.weights}


def models(pipeline: Any) -> dict[str, nn.Module]:
    """The models of a pipeline under diffusers' names, each once."""
    names = dict.fromkeys(PIPELINE_ATTRIBUTES[part] for part in component_names(pipeline))
    return {name: getattr(pipeline, name) for name in names}


def captured_model(capture: Capture) -> nn.Module:
    """The diffusers model that a captured part wraps."""
    (model,) = capture.module.children()
    return model


def weights(model: nn.Module) -> dict[str, Weight]:
    """Name -> weight of every convolution, linear layer and embedding of a model.

    A weight that two layers share has the name of the first.
    """
    found: dict[str, Weight] = {}
    own = dict(model.named_parameters())
    for path, module in model.named_modules():
        kind = next((kind for base, kind in _KINDS if isinstance(module, base)), None)
        name = f"{path}.weight"
        if kind is not None and name in own:
            found[name] = Weight(name, kind, tuple(own[name].shape))
    return found


def of_part(names: Bits, part: str) -> Bits:
    """What of a component's tensors belongs to an exported part (a VAE has two)."""
    prefixes = _VAE_PARTS.get(part, ("",))
    return {name: bits for name, bits in names.items() if name.startswith(prefixes)}


def draws(component: str, name: str) -> bool:
    """Whether a tensor takes part in drawing a picture. A VAE's encoder does not."""
    return component != "vae" or not name.startswith(_VAE_PARTS["vae_encoder"])


def make_units(component: str, model: nn.Module, storage: WeightStorage, limit: int) -> list[Unit]:
    """Group a component's weights into at most about `limit` units.

    The finest grouping that fits is taken: single tensors; then the layers of the same parent (the
    projections of one attention, the convolutions of one residual block); then all below the same
    grandparent, and so on. Tensors of a group that cannot be stored in the same numbers of bits
    make several units. A tensor that does not take part in drawing is in none.
    """
    able = [
        (weight, storage.choices(weight.kind, weight.shape))
        for weight in weights(model).values()
        if draws(component, weight.name)
    ]
    able = [(weight, choices) for weight, choices in able if choices]
    deepest = max((len(_steps(weight.name)) for weight, _ in able), default=0)
    units: list[Unit] = []
    for level in range(max(deepest, 1)):
        groups: dict[tuple[str, tuple[int, ...]], list[Weight]] = {}
        for weight, choices in able:
            groups.setdefault((_ancestor(weight.name, level), choices), []).append(weight)
        units = [
            Unit(component, name, tuple(members), choices)
            for (name, choices), members in groups.items()
        ]
        if len(units) <= limit:
            break
    return units


def _ancestor(name: str, level: int) -> str:
    """Level 0: the tensor itself; 1: the parent of its layer; and so on, up to the first step."""
    if level == 0:
        return name
    steps = _steps(name)
    return ".".join(steps[: max(len(steps) - level, 1)])


def _steps(name: str) -> list[str]:
    """`mid_block.resnets.0.conv1.weight` -> `mid_block`, `resnets.0`, `conv1`."""
    return re.findall(r"[^.]+(?:\.\d+)*", name.removesuffix(".weight"))


def stored_bytes(model: nn.Module, bits: Bits, storage: WeightStorage) -> int:
    """Bytes of all parameters of a model: those in `bits` as it says, the others as floats."""
    return sum(
        storage.stored_bytes(tuple(tensor.shape), bits.get(name))
        for name, tensor in model.named_parameters()
    )
