"""Components of a Stable Diffusion pipeline folder: their classes, files and empty models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgekd.artifacts import read_json
from edgekd.errors import InputError
from edgekd.libraries import diffusers, transformers

CLIP_ENCODERS = {"CLIPTextModel", "CLIPTextModelWithProjection"}
TOKENIZERS = {"CLIPTokenizer", "CLIPTokenizerFast"}


@dataclass(frozen=True)
class PipelineKind:
    """What a pipeline class is made of."""

    classes: dict[str, set[str]]  # component -> accepted class names
    text_pairs: tuple[tuple[str, str], ...]  # (tokenizer, text encoder), in embedding order


PIPELINES = {
    "StableDiffusionPipeline": PipelineKind(
        {
            "unet": {"UNet2DConditionModel"},
            "vae": {"AutoencoderKL"},
            "text_encoder": {"CLIPTextModel"},
            "tokenizer": TOKENIZERS,
        },
        (("tokenizer", "text_encoder"),),
    ),
    "StableDiffusionXLPipeline": PipelineKind(
        {
            "unet": {"UNet2DConditionModel"},
            "vae": {"AutoencoderKL"},
            "text_encoder": {"CLIPTextModel"},
            "text_encoder_2": {"CLIPTextModelWithProjection"},
            "tokenizer": TOKENIZERS,
            "tokenizer_2": TOKENIZERS,
        },
        (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
    ),
}
MODELS = ("text_encoder", "text_encoder_2", "unet", "vae")


def weights_stem(component: str) -> str:
    """File name of a component's weights, without `.safetensors`."""
    return "model" if component.startswith("text_encoder") else "diffusion_pytorch_model"


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A component's config as a mapping.

    Raises:
        InputError: missing, not JSON, or not a mapping.
    """
    config = read_json(folder / name)
    if not isinstance(config, dict):
        raise InputError(f"`{folder / name}` must hold a JSON object", type(config).__name__)
    return config


def empty_model(component: str, class_name: str, folder: Path) -> Any:
    """A component built from its config on the meta device: shapes without memory.

    Raises:
        InputError: the config does not describe a model of this class.
    """
    config = read_config(folder)
    try:
        with torch.device("meta"):
            if component.startswith("text_encoder"):
                text_config = config.get("text_config", config)
                return getattr(transformers, class_name)(
                    transformers.CLIPTextConfig.from_dict(text_config)
                )
            return getattr(diffusers, class_name).from_config(config)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError) as e:
        problem = " ".join(str(e).split())[:200]
        raise InputError(
            f"`{folder / 'config.json'}` must describe a {class_name}", problem
        ) from None


def expected_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a checkpoint of this model holds."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def materialise(model: torch.nn.Module, state: dict[str, torch.Tensor], device: str) -> None:
    """Give an empty model its tensors, freeze it and put it in evaluation mode."""
    model.load_state_dict(state, strict=True, assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], _derived_buffer(name, buffer, device))
    model.requires_grad_(False).eval()


def _derived_buffer(name: str, buffer: torch.Tensor, device: str) -> torch.Tensor:
    # Buffers that are not in checkpoints are computed by the constructor, which ran on meta.
    if not name.endswith("position_ids"):
        raise RuntimeError(f"no rule to compute the buffer {name}")
    return torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).clone()


def load_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer from `vocab.json` and `merges.txt`, or from `tokenizer.json` alone."""
    slow = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    kind = transformers.CLIPTokenizer if slow else transformers.CLIPTokenizerFast
    return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def load_scheduler(folder: Path) -> Any:
    """The scheduler that `scheduler_config.json` names."""
    config = read_config(folder, "scheduler_config.json")
    return getattr(diffusers, config["_class_name"]).from_config(config)
