"""A pipeline of a published configuration with seeded random weights, to export and to time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.libraries import diffusers, transformers
from edgekd.resources import STARTER
from edgekd.student.reference import ARCHITECTURES

_TEXT_CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


def make_pipeline(architecture: str, seed: int, out: Path) -> None:
    """Make and save a pipeline of an architecture in `edgekd.student.reference`."""
    import torch

    configs = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel(**configs["unet"]),
        "vae": diffusers.AutoencoderKL(**configs["vae"]),
        "scheduler": build_scheduler(),
    }
    for name, class_name in _TEXT_CLASSES.items():
        if name in configs:
            tokenizer = _tokenizer(configs[name]["max_position_embeddings"])
            parts[name.replace("text_encoder", "tokenizer")] = tokenizer
            ends = {
                f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos")
            }
            config = transformers.CLIPTextConfig(**configs[name], **ends)
            parts[name] = getattr(transformers, class_name)(config)
    if "text_encoder_2" in configs:
        pipeline = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(out, safe_serialization=True)


def _tokenizer(length: int) -> Any:
    """The starter's words, padded to the length of the published model."""
    return transformers.CLIPTokenizer.from_pretrained(
        str(STARTER / "teacher" / "tokenizer"), local_files_only=True, model_max_length=length
    )
