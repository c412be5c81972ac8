"""A pipeline of a published configuration with seeded random weights, to export and to time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.diffusion.components import PIPELINES
from edgekd.diffusion.load import Teacher
from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.diffusion.validate import TeacherInfo
from edgekd.libraries import diffusers, transformers
from edgekd.resources import STARTER
from edgekd.student.reference import ARCHITECTURES

_TEXT_CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}


def make_pipeline(architecture: str, seed: int, out: Path) -> None:
    """Make and save a pipeline of an architecture in `edgekd.student.reference`."""
    parts = _parts(architecture, seed, {})
    if "text_encoder_2" in parts:
        pipeline = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(out, safe_serialization=True)


def random_info(architecture: str, latent_size: int | None = None) -> TeacherInfo:
    """What `inspect_teacher` would say of the pipeline, without making it.

    Args:
        latent_size: side of the latents; None: the published one.
    """
    configs = ARCHITECTURES[architecture]
    unet, vae, xl = configs["unet"], configs["vae"], "text_encoder_2" in configs
    size = latent_size or int(unet["sample_size"])
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    pipeline_class = "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline"
    return TeacherInfo(
        path=Path(architecture),
        files=(),
        family="sdxl" if xl else "sd2" if unet.get("use_linear_projection") else "sd1",
        pipeline_class=pipeline_class,
        prediction_type="epsilon",
        resolution=size * factor,
        latent_size=size,
        latent_channels=int(vae["latent_channels"]),
        cross_attention_dim=int(unet["cross_attention_dim"]),
        text_tokens=int(configs["text_encoder"]["max_position_embeddings"]),
        vae_scale_factor=factor,
        unet_scale_factor=2 ** (len(unet["block_out_channels"]) - 1),
        components=PIPELINES[pipeline_class].components,
        zero_empty_prompt=xl,
        tiny_vae=False,
        guidance_conditioned=False,
    )


def random_teacher(architecture: str, latent_size: int, seed: int, device: str) -> Teacher:
    """What `load_teacher` would give of the pipeline; no file is written."""
    info = random_info(architecture, latent_size)
    parts = _parts(architecture, seed, {"sample_size": latent_size})
    kind = PIPELINES[info.pipeline_class]
    for name in kind.models:
        parts[name] = parts[name].requires_grad_(False).eval().to(device)
    return Teacher(
        info=info,
        unet=parts["unet"],
        vae=parts["vae"],
        text_encoders=tuple(parts[encoder] for _, encoder in kind.text_pairs),
        tokenizers=tuple(parts[tokenizer] for tokenizer, _ in kind.text_pairs),
        scheduler=parts["scheduler"],
    )


def _parts(architecture: str, seed: int, unet: dict[str, Any]) -> dict[str, Any]:
    """Components by their names.

    Args:
        unet: fields of its config that are not the published ones.
    """
    import torch

    configs = ARCHITECTURES[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "unet": diffusers.UNet2DConditionModel(**{**configs["unet"], **unet}),
            "vae": diffusers.AutoencoderKL(**configs["vae"]),
            "scheduler": build_scheduler(),
        }
        for name, class_name in _TEXT_CLASSES.items():
            if name in configs:
                tokenizer = _tokenizer(configs[name]["max_position_embeddings"])
                parts[name.replace("text_encoder", "tokenizer")] = tokenizer
                ends = {
                    f"{end}_token_id": getattr(tokenizer, f"{end}_token_id")
                    for end in ("bos", "eos")
                }
                config = transformers.CLIPTextConfig(**configs[name], **ends)
                parts[name] = getattr(transformers, class_name)(config)
    return parts


def _tokenizer(length: int) -> Any:
    """The starter's words, padded to the length of the published model."""
    return transformers.CLIPTokenizer.from_pretrained(
        str(STARTER / "teacher" / "tokenizer"), local_files_only=True, model_max_length=length
    )
