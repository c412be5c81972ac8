"""Names and shapes that Apple's Swift package `StableDiffusion` expects of a Core ML model.

Read off `swift/StableDiffusion/pipeline/*.swift` of apple/ml-stable-diffusion 1.1: it finds models
by file name, and the inputs and outputs below by name (a lone input or output by its place).

| package      | inputs, float32                                     | outputs, float32           |
|--------------|-----------------------------------------------------|----------------------------|
| TextEncoder  | input_ids (1,L)                                     | last_hidden_state (1,L,D), |
|              |                                                     | pooled_outputs (1,D)       |
| TextEncoder, | input_ids (1,L)                                     | hidden_embeds (1,L,D),     |
| TextEncoder2 |                                                     | pooled_outputs (1,D)       |
| of SDXL      |                                                     |                            |
| Unet         | sample (2,c,h,w), timestep (2),                     | noise_pred (2,c,h,w)       |
|              | encoder_hidden_states (2,D,1,L);                    |                            |
|              | SDXL: text_embeds (2,P), time_ids (2,6)             |                            |
| VAEDecoder   | z (1,c,h,w), unscaled                               | image (1,3,H,W) in [-1,1]  |
| VAEEncoder   | x (1,3,H,W) in [-1,1]                               | latent (1,2c,h,w)          |

The U-Net's batch is 2: Swift always guides. `timestep_cond` (2,E), of guidance-distilled U-Nets, is
edgekd's own addition; Apple's package does not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.errors import InputError
from edgekd.reading import read_object
from edgekd.runtime.backend import Array, Arrays

LAYOUT_FILE = "layout.json"
PACKAGES = {
    "text_encoder": "TextEncoder",
    "text_encoder_2": "TextEncoder2",
    "vae_encoder": "VAEEncoder",
    "vae_decoder": "VAEDecoder",
    "unet": "Unet",
}
# edgekd's name -> Apple's, where they differ.
_INPUTS = {"vae_encoder": {"sample": "x"}, "vae_decoder": {"latent_sample": "z"}}


@dataclass(frozen=True)
class Layout:
    """One part in Apple's terms.

    Attributes:
        component, package: edgekd's and Apple's name of the part.
        batch: the fixed first dimension.
        inputs: edgekd's input name -> Apple's.
        outputs: edgekd's output name -> Apple's; outputs that Apple's package never reads are
            left out.
    """

    component: str
    package: str
    batch: int
    inputs: dict[str, str]
    outputs: dict[str, str]

    def to_apple(self, inputs: Mapping[str, Array]) -> Arrays:
        """One full batch of edgekd's arrays in Apple's shapes, float32."""
        return {
            self.inputs[name]: np.ascontiguousarray(self._shaped(name, array), dtype=np.float32)
            for name, array in inputs.items()
        }

    def _shaped(self, name: str, array: Array) -> Array:
        if self.component == "unet" and name == "timestep":
            return np.broadcast_to(array, (self.batch,))
        if self.component == "unet" and name == "encoder_hidden_states":
            turned: Array = array.transpose(0, 2, 1)
            return turned[:, :, None, :]  # [B,L,D] -> [B,D,1,L]
        return array


def named_layout(component: str, inputs: tuple[str, ...], outputs: dict[str, str]) -> Layout:
    """The layout of a part whose outputs are already known by both names."""
    renamed = _INPUTS.get(component, {})
    return Layout(
        component,
        PACKAGES[component],
        batch=2 if component == "unet" else 1,
        inputs={name: renamed.get(name, name) for name in inputs},
        outputs=outputs,
    )


def package_path(folder: Path, layout: Layout) -> Path:
    return folder / f"{layout.package}.mlpackage"


def read_layout(folder: Path, component: str) -> Layout:
    """The layout of a written part.

    Raises:
        InputError: the file has not the form that an export gives it.
    """
    stored = read_object(folder / LAYOUT_FILE)
    try:
        layout = named_layout(component, tuple(stored["inputs"]), dict(stored["outputs"]))
        well_formed = layout.inputs == stored["inputs"]
    except (TypeError, KeyError, ValueError):
        well_formed = False
    if not well_formed:
        raise InputError(
            f"`{folder / LAYOUT_FILE}` must name the inputs and outputs of a {component}",
            str(stored)[:200],
        )
    return layout
