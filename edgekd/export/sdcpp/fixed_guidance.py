"""A guidance-distilled U-Net at one guidance scale, as a U-Net without that input.

With e the sinusoids of the time and g those of the guidance scale w, the first layer computes

    W (e + C g(w)) + b  =  W e + (b + W C g(w)),

so for a fixed w the embedding of the guidance is a change of the bias. Nothing is lost but the
choice of w.
"""

from __future__ import annotations

import torch

from edgekd.export.sdcpp.layout import State
from edgekd.runtime.conditions import guidance_conditions

_PROJECTION = "time_embedding.cond_proj.weight"
_FIRST = "time_embedding.linear_1"


def fix_guidance(state: State, scale: float) -> State:
    """The state dict of the U-Net that always draws with this scale.

    Args:
        state: of a `UNet2DConditionModel`; returned as it is where it takes no guidance.
    """
    if _PROJECTION not in state:
        return state
    projection = state[_PROJECTION].double()
    row = guidance_conditions(scale, projection.shape[1], 1)["timestep_cond"][0]
    embedded = projection @ torch.from_numpy(row).double()
    bias, weight = state[f"{_FIRST}.bias"], state[f"{_FIRST}.weight"].double()
    fixed = (bias.double() + weight @ embedded).to(bias.dtype)
    rest = {name: value for name, value in state.items() if name != _PROJECTION}
    return {**rest, f"{_FIRST}.bias": fixed}
