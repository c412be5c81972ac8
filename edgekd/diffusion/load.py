"""Load a teacher: an ordinary diffusers pipeline folder, whole or not at all.

Models are built from their configs and given their tensors by exact name and
shape. `from_pretrained` is not used for them: it leaves a tensor that it
cannot find with random weights and says so in one warning.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgekd.diffusion.components import (
    PIPELINES,
    empty_model,
    expected_shapes,
    load_scheduler,
    load_tokenizer,
    materialise,
    weights_stem,
)
from edgekd.diffusion.validate import TeacherInfo, inspect_folder
from edgekd.diffusion.weights import find_weights, match_tensors, read_headers, read_tensors
from edgekd.libraries import diffusers

# Pixels a side.
_DECODED_TOGETHER = 256


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher: frozen models in evaluation mode.

    Attributes:
        unet: `UNet2DConditionModel`.
        vae: `AutoencoderKL`, or `AutoencoderTiny` in a pipeline that is not distilled from.
        text_encoders: one CLIP text model, two for SDXL, in the order of their embeddings.
        tokenizers: one for each text encoder.
        scheduler: the folder's scheduler.
    """

    info: TeacherInfo
    unet: Any
    vae: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    scheduler: Any

    @property
    def device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.unet.dtype
        return dtype


def load_model(
    path: Path, component: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """One model of a pipeline folder, frozen and in evaluation mode.

    Args:
        path: pipeline folder.
        component: `unet`, `vae`, `text_encoder` or `text_encoder_2`.

    Raises:
        InputError: weights that do not fit the config exactly, or are not finite.
    """
    folder = path / component
    model = empty_model(folder)
    stored = read_headers(find_weights(folder, weights_stem(component)))
    matched = match_tensors(stored, expected_shapes(model), f"`{folder}`")
    materialise(model, read_tensors(matched, dtype, device), device)
    return model


def load_teacher(
    path: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    only: Collection[str] | None = None,
) -> Teacher:
    """Load and validate a teacher folder.

    Args:
        only: models whose weights are read; the others are left on the meta device, which has
            their shapes and no memory. None: all.

    Raises:
        InputError: see `diffusion.validate.inspect_folder`; also weights that are not finite.
    """
    info = inspect_folder(path)
    kind = PIPELINES[info.pipeline_class]
    models = {
        name: load_model(path, name, device=device, dtype=dtype)
        if only is None or name in only
        else empty_model(path / name)
        for name in kind.models
    }
    pairs = kind.text_pairs
    return Teacher(
        info=info,
        unet=models["unet"],
        vae=models["vae"],
        text_encoders=tuple(models[encoder] for _, encoder in pairs),
        tokenizers=tuple(load_tokenizer(path / tokenizer) for tokenizer, _ in pairs),
        scheduler=load_scheduler(path / "scheduler"),
    )


def spare_memory(pipeline: Any, side: int) -> None:
    """Let a pipeline decode the pictures of a batch one by one where they are large: Stable
    Diffusion's decoder holds 0.9 GB of one of 512 x 512.

    Args:
        side: of the pictures, in pixels.
    """
    if side > _DECODED_TOGETHER:
        pipeline.vae.enable_slicing()


def make_pipeline(teacher: Teacher) -> Any:
    """A stock diffusers pipeline over a teacher's models, without safety checker."""
    info = teacher.info
    parts: dict[str, Any] = {
        "unet": teacher.unet,
        "vae": teacher.vae,
        "scheduler": teacher.scheduler,
    }
    pairs = PIPELINES[info.pipeline_class].text_pairs
    for i, (tokenizer, encoder) in enumerate(pairs):
        parts[tokenizer] = teacher.tokenizers[i]
        parts[encoder] = teacher.text_encoders[i]
    make = getattr(diffusers, info.pipeline_class)
    if info.family == "sdxl":
        pipeline = make(
            **parts, force_zeros_for_empty_prompt=info.zero_empty_prompt, add_watermarker=False
        )
    else:
        pipeline = make(
            **parts,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(path: Path, only: Collection[str] | None = None) -> Any:
    """Load a pipeline folder as the diffusers pipeline it names, in fp32 and silent.

    Args:
        only: see `load_teacher`.

    Raises:
        InputError: as `load_teacher`.
    """
    return make_pipeline(load_teacher(path, only=only))
