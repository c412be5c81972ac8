"""The folders of a pipeline, each made of its tensors in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekd.diffusion.components import INDEX_FILE, SCHEDULER_FILE
from edgekd.diffusion.single_file.checkpoint import TEXT, VAE, CheckpointFile
from edgekd.diffusion.single_file.configs import (
    Config,
    clip_config,
    open_clip_config,
    scheduler_config,
    unet_config,
    vae_config,
)
from edgekd.diffusion.single_file.convert import (
    Tensors,
    copy_vae,
    drawing_layers,
    write_clip,
    write_open_clip,
    write_unet,
    write_vae,
)
from edgekd.diffusion.single_file.numbering import without_holes
from edgekd.diffusion.single_file.vocabulary import SPECIAL, write_tokenizer
from edgekd.diffusion.validate import Family, Prediction
from edgekd.diffusion.weights import StoredTensor, read_all_headers
from edgekd.errors import InputError
from edgekd.files import write_json
from edgekd.reading import read_object

_CLIP_PAD = SPECIAL[1]
_OPEN_CLIP_PAD = "!"  # the token of id 0
_INDEX: Mapping[Family, Config] = {
    "sd1": {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False},
    "sd2": {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False},
    "sdxl": {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True},
}


def write_text(checkpoint: CheckpointFile, folder: Path) -> int:
    """Write text encoders and tokenizers; returns the width of the pooled embedding."""
    projection = 0
    for number, prefix in enumerate(TEXT[checkpoint.family]):
        suffix = f"_{number + 1}" if number else ""
        encoder, tokenizer = folder / f"text_encoder{suffix}", folder / f"tokenizer{suffix}"
        tensors = checkpoint.part(prefix)
        if prefix.endswith("transformer."):
            config = clip_config(tensors)
            pad = _CLIP_PAD
            write_clip(encoder, tensors, config)
        else:
            tensors = drawing_layers(tensors, projected=bool(number))
            config = open_clip_config(tensors)
            pad = _OPEN_CLIP_PAD
            write_open_clip(encoder, tensors, config)
        write_tokenizer(tokenizer, pad, config["max_position_embeddings"])
        projection = int(config["projection_dim"])
    return projection


def write_u_net(
    checkpoint: CheckpointFile, tensors: Tensors, folder: Path, projection: int
) -> Config:
    """Write the U-Net, for latents of a usual size; returns its config.

    Args:
        projection: of SDXL's pooled text. Six size conditions share the rest of the input.
    """
    tensors = without_holes(tensors)
    config = unet_config(tensors, checkpoint.family)
    if checkpoint.family == "sdxl":
        rest = config["projection_class_embeddings_input_dim"] - projection
        config["addition_time_embed_dim"] = rest // 6
    write_unet(folder / "unet", tensors, config)
    return config


def find_vae(checkpoint: CheckpointFile, given: Path | None) -> Tensors | Path:
    """The VAE to use: tensors of this checkpoint or of a given one, or a diffusers folder.

    Raises:
        InputError: there is none.
    """
    if given is not None and given.is_dir():
        return given
    if given is not None:
        return _vae_of_file(given)
    tensors = checkpoint.part(VAE)
    if not tensors:
        raise InputError(
            "a checkpoint must hold a VAE, or one must be given",
            f"none in {checkpoint.path.name}",
            "Pass `edgekd import` a --vae.",
        )
    return tensors


def _vae_of_file(path: Path) -> Tensors:
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(
            "`--vae` must be a .safetensors file or a diffusers folder",
            str(path) if path.is_file() else f"no file {path}",
        )
    stored = read_all_headers([path])
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        plain = name.removeprefix(VAE)
        # Losses are trained beside a VAE; a whole checkpoint has other parts too.
        if plain.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")):
            tensors[plain] = tensor
    if not any(name.startswith("encoder.down.") for name in tensors):
        raise InputError(
            "`--vae` must hold a VAE in the layout of Stable Diffusion's authors",
            f"something else in {path.name}",
            "Of a VAE for diffusers, pass the folder.",
        )
    return tensors


def write_a_vae(vae: Tensors | Path, family: Family, size: int, folder: Path) -> int:
    """Write the VAE; returns the pixels to a latent, along a side."""
    if isinstance(vae, Path):
        copy_vae(vae, folder)
        widths = read_object(folder / "config.json").get("block_out_channels")
        stages = len(widths) if isinstance(widths, list) else 1
    else:
        config = vae_config(vae, family, size)
        write_vae(folder, vae, config)
        stages = len(config["block_out_channels"])
    return int(2 ** (stages - 1))


def write_index(folder: Path, family: Family, prediction: Prediction, zero_snr: bool) -> None:
    """Write the scheduler and `model_index.json`: the last that a pipeline needs."""
    schedule = scheduler_config(family, prediction, zero_snr)
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / SCHEDULER_FILE, schedule)
    index = {
        **_INDEX[family],
        "scheduler": ["diffusers", schedule["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if family == "sdxl":
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    else:
        index |= {"feature_extractor": [None, None], "safety_checker": [None, None]}
    write_json(folder / INDEX_FILE, index)
