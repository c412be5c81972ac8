"""Inspect a teacher: every part of a diffusers pipeline folder, before any weight is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Family = Literal["sd1", "sd2", "sdxl"]
Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class TeacherInfo:
    """Facts of a valid teacher folder.

    Attributes:
        key: hash of the content that is loaded (configs, weights, tokenizers, scheduler).
        family: `sd2` is a StableDiffusionPipeline whose U-Net uses linear projections.
        resolution: native side in pixels; `latent_size * vae_scale_factor`.
        components: names of the folders that are loaded.
        zero_empty_prompt: the pipeline's unconditional embedding is zeros, not the encoded "".
    """

    path: Path
    key: str
    family: Family
    pipeline_class: str
    prediction_type: Prediction
    resolution: int
    latent_size: int
    latent_channels: int
    cross_attention_dim: int
    vae_scale_factor: int
    components: tuple[str, ...]
    zero_empty_prompt: bool


def inspect_folder(path: Path) -> TeacherInfo:
    """Check a teacher folder and return its facts.

    Raises:
        InputError: a part is missing, unsafe or inconsistent with another.
    """
    from edgekd.artifacts import hash_tree
    from edgekd.teacher.components import PIPELINES, read_config

    index = read_config(path, "model_index.json")
    unet = read_config(path / "unet")
    vae = read_config(path / "vae")
    scheduler = read_config(path / "scheduler", "scheduler_config.json")
    kind = index["_class_name"]
    family: Family = "sdxl" if "XL" in kind else "sd2" if unet["use_linear_projection"] else "sd1"
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    return TeacherInfo(
        path=path,
        key=hash_tree(path),
        family=family,
        pipeline_class=kind,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        resolution=unet["sample_size"] * factor,
        latent_size=unet["sample_size"],
        latent_channels=vae["latent_channels"],
        cross_attention_dim=unet["cross_attention_dim"],
        vae_scale_factor=factor,
        components=(*PIPELINES[kind].classes, "scheduler"),
        zero_empty_prompt=kind == "StableDiffusionXLPipeline"
        and index.get("force_zeros_for_empty_prompt", True),
    )
