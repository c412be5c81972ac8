"""Text encoders of fewer layers, with their teacher's weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from edgekd.diffusion.components import materialise

Layers = tuple[int, ...]
_LAYER = re.compile(r"(?<=encoder\.layers\.)\d+(?=\.)")


def keep_layers(encoder: Any, kept: Sequence[int]) -> Any:
    """A text encoder of these layers of its teacher's, in their order, and of all else that it has.

    With all layers it equals the teacher bit for bit. Its weights are the teacher's tensors, not
    copies of them: copy it before it is trained.

    Args:
        encoder: `CLIPTextModel` or `CLIPTextModelWithProjection`; not changed.

    Returns:
        A model of the same class, frozen and in evaluation mode.
    """
    places = {old: new for new, old in enumerate(kept)}
    state = {}
    for name, tensor in encoder.state_dict().items():
        found = _LAYER.search(name)
        if found is None:
            state[name] = tensor
        elif int(found[0]) in places:
            state[_LAYER.sub(str(places[int(found[0])]), name)] = tensor
    config = copy.deepcopy(encoder.config)
    config.num_hidden_layers = len(kept)
    with torch.device("meta"):
        student = type(encoder)(config)
    materialise(student, state, str(encoder.device))
    return student


def choose_layers(
    layers: int, count: int, error: Callable[[Layers], float], fixed: Collection[int] = ()
) -> Layers:
    """Which layers stay: one after the other, the one leaves that is missed least.

    Args:
        layers: of the teacher.
        count: that stay.
        error: of the teacher with these layers alone.
        fixed: that stay in any case; no more than `count`.
    """
    kept: Layers = tuple(range(layers))
    while len(kept) > count:
        tries = [tuple(i for i in kept if i != one) for one in kept if one not in fixed]
        kept = min(tries, key=error)
    return kept
