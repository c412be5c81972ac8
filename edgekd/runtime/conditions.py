"""What the U-Net is told beside the latents: prompts, picture sizes, guidance.

N pictures, L tokens, D text width, P pooled width, G guidance width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.reading import Fields
from edgekd.runtime.backend import Backend, taken
from edgekd.runtime.folder import ExportedFolder
from edgekd.runtime.tokenizer import ClipTokenizer

F32Array = npt.NDArray[np.float32]
Conditions = dict[str, F32Array]  # input name of the U-Net -> values, [N,…]
Encode = Callable[[Sequence[str]], Conditions]  # prompts -> conditions, one row for each
_STATES = "hidden_states."
log = logging.getLogger("edgekd.runtime")


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the encoder that reads its ids."""

    component: str
    tokenizer: ClipTokenizer
    backend: Backend

    def __call__(self, prompts: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The encoder's outputs by name, one row for each prompt."""
        distinct = list(dict.fromkeys(prompts))  # the negative prompt is often one and the same
        ids, cut = self.tokenizer(distinct)
        for prompt, count in zip(distinct, cut, strict=True):
            if count:
                log.warning("%d tokens do not fit and are left out: %r", count, prompt)
        rows = [distinct.index(prompt) for prompt in prompts]
        outputs = self.backend.run(self.component, {"input_ids": ids})
        whole = {name: row for name, row in outputs.items() if row.shape[:1] == ids.shape[:1]}
        return {name: values[rows] for name, values in whole.items()}


def check_prompts(prompts: Sequence[str]) -> None:
    """Empty captions are for guidance, not for drawing.

    Raises:
        InputError: there is one.
    """
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("a prompt must not be empty", repr(prompts))


def open_encoders(folder: ExportedFolder, backend: Backend) -> list[TextEncoder]:
    """The text encoders of a folder; an XL refiner has the second one only.

    Raises:
        InputError: a tokenizer is missing or damaged, or gives ids that its encoder cannot read.
    """
    found = open_tokenizers(folder.path, folder.is_sdxl)
    return [TextEncoder(component, tokenizer, backend) for component, tokenizer in found.items()]


def open_tokenizers(path: Path, is_sdxl: bool) -> dict[str, ClipTokenizer]:
    """Text encoder -> its tokenizer.

    Raises:
        InputError: as `open_encoders`.
    """
    found = {}
    for suffix in ("", "_2") if is_sdxl else ("",):
        component, tokenizer = f"text_encoder{suffix}", path / f"tokenizer{suffix}"
        if is_sdxl and not suffix and not tokenizer.is_dir():
            continue
        if not tokenizer.is_dir():
            raise InputError(
                f"a pipeline of its class must have `{tokenizer.name}`", f"none in {path}"
            )
        config = Fields.read(path / component / "config.json")
        found[component] = ClipTokenizer(tokenizer, config.integer("vocab_size", 1, 1 << 20))
    return found


def encode_prompts(
    folder: ExportedFolder, encoders: Sequence[TextEncoder], prompts: Sequence[str]
) -> Conditions:
    """encoder_hidden_states [N,L,D]; XL: the encoders' last but one states side by side, and the
    pooled vector of the last encoder, text_embeds [N,P]."""
    outputs = [encoder(prompts) for encoder in encoders]
    count, last = len(prompts), encoders[-1].component
    states = []
    for encoder, values in zip(encoders, outputs, strict=True):
        name = _last_but_one(values) if folder.is_sdxl else "last_hidden_state"
        shape = (count, encoder.tokenizer.max_length, None)
        states.append(taken(values, name, encoder.component, shape))
    conditions = {"encoder_hidden_states": np.concatenate(states, axis=-1)}
    if folder.is_sdxl:
        conditions["text_embeds"] = taken(outputs[-1], "text_embeds", last, (count, None))
    return conditions


def _last_but_one(outputs: dict[str, npt.NDArray[Any]]) -> str:
    """Its name among the outputs."""
    layers = sorted(
        int(name.removeprefix(_STATES))
        for name in outputs
        if name.startswith(_STATES) and name.removeprefix(_STATES).isdecimal()
    )
    # A Core ML package has that one alone.
    return f"{_STATES}{layers[-2:][0] if layers else 0}"


def encode_negative(
    folder: ExportedFolder,
    encode: Encode,
    negative: Sequence[str] | None,
    positive: Conditions,
) -> Conditions:
    """What guidance leads away from; None: nothing in particular."""
    if negative is None and folder.zero_negative:
        return {name: np.zeros_like(values) for name, values in positive.items()}
    count = len(positive["encoder_hidden_states"])
    return encode([""] * count if negative is None else negative)


def size_conditions(height: int, width: int, count: int) -> Conditions:
    """time_ids [N,6]: original size, corner of the crop, wanted size (Podell et al., "SDXL",
    arXiv 2307.01952, section 2.2): a whole picture of the size that is drawn."""
    row = np.array([height, width, 0, 0, height, width], np.float32)
    return {"time_ids": np.tile(row, (count, 1))}


def guidance_conditions(guidance_scale: float, width: int, count: int) -> Conditions:
    """timestep_cond [N,G]: the guidance scale for a U-Net that was distilled with it.

    Sines and cosines of 1000 (scale - 1) at falling frequencies: Meng et al., "On Distillation of
    Guided Diffusion Models" (arXiv 2210.03142), section 3.1; frequencies as in diffusers.
    """
    half = width // 2
    frequencies = np.exp(
        np.arange(half, dtype=np.float32) * np.float32(-math.log(1e4) / (half - 1))
    )
    angles = np.float32((guidance_scale - 1) * 1000) * frequencies
    row = np.zeros(width, np.float32)  # an odd width ends in a zero
    row[: 2 * half] = np.concatenate([np.sin(angles), np.cos(angles)])
    return {"timestep_cond": np.tile(row, (count, 1))}
