"""Components of a Stable Diffusion pipeline folder: their classes, files and empty models."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from packaging.version import InvalidVersion, Version

from edgekd.errors import InputError
from edgekd.libraries import diffusers, transformers
from edgekd.reading import read_object

INDEX_FILE = "model_index.json"
SCHEDULER_FILE = "scheduler_config.json"
SAVE_AGAIN = "Save the pipeline again with `pipeline.save_pretrained(path)`."
TINY_VAE = "AutoencoderTiny"
# `<library>, <classes>` of each model component, as model_index.json writes them.
MODELS = {
    "text_encoder": ("transformers", ("CLIPTextModel",)),
    "text_encoder_2": ("transformers", ("CLIPTextModelWithProjection",)),
    "unet": ("diffusers", ("UNet2DConditionModel",)),
    "vae": ("diffusers", ("AutoencoderKL", TINY_VAE)),
}
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")

# No Stable Diffusion comes near any of these.
_MAX_NUMBER = 1 << 20
_MAX_ENTRIES = 256
_MAX_LAYERS = 4096

# Constructors check their arguments in no uniform way; these they raise for a config's values.
CONFIG_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class PipelineKind:
    """What a pipeline class is made of.

    Attributes:
        models: its model components, keys of `MODELS`.
        text_pairs: (tokenizer, text encoder) in the order of their embeddings.
    """

    models: tuple[str, ...]
    text_pairs: tuple[tuple[str, str], ...]

    @property
    def components(self) -> tuple[str, ...]:
        """All folders that are loaded."""
        return (*self.models, *(tokenizer for tokenizer, _ in self.text_pairs), "scheduler")


_PAIR = ("tokenizer", "text_encoder")
PIPELINES = {
    "StableDiffusionPipeline": PipelineKind(("text_encoder", "unet", "vae"), (_PAIR,)),
    "StableDiffusionXLPipeline": PipelineKind(
        ("text_encoder", "text_encoder_2", "unet", "vae"),
        (_PAIR, ("tokenizer_2", "text_encoder_2")),
    ),
    # A guidance-distilled U-Net with its own sampler (Luo et al. 2023).
    "LatentConsistencyModelPipeline": PipelineKind(("text_encoder", "unet", "vae"), (_PAIR,)),
}


# Pipelines that begin with a picture, and those of the same parts that begin with text.
_OF_PICTURES = {
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
    "LatentConsistencyModelImg2ImgPipeline": "LatentConsistencyModelPipeline",
}


def text_to_image(index: Mapping[str, Any]) -> dict[str, Any]:
    """A `model_index.json` as that of the pipeline of the same parts that begins with text."""
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in _OF_PICTURES:
        return dict(index)
    others = {key: value for key, value in index.items() if key != "requires_aesthetics_score"}
    return {**others, "_class_name": _OF_PICTURES[name]}


def weights_stem(component: str) -> str:
    """File name of a component's weights, without `.safetensors`."""
    return "model" if component.startswith("text_encoder") else "diffusion_pytorch_model"


def read_config(path: Path) -> dict[str, Any]:
    """A JSON config as a mapping.

    Raises:
        InputError: missing, not JSON, or not a mapping.
    """
    if not path.is_file():
        raise InputError(f"a pipeline must have `{path.parent.name}/{path.name}`", f"no {path}")
    return read_object(path)


def empty_model(folder: Path) -> Any:
    """A component built from its config on the meta device: shapes without memory.

    Args:
        folder: the component's folder, named by its key in `MODELS`.

    Raises:
        InputError: the config does not describe a model of this class.
    """
    library, classes = MODELS[folder.name]
    config = read_config(folder / "config.json")
    _check_sizes(config, folder / "config.json")
    class_name = classes[0]
    if library == "transformers":
        _check_config_class(folder, config.get("model_type"), ("clip_text_model", "clip", None))
    else:
        _check_config_class(folder, config.get("_class_name"), (*classes, None))
        _check_version(config, folder / "config.json")
        class_name = config.get("_class_name") or class_name
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd sizes, which are checked later
            if library == "transformers":
                text_config = transformers.CLIPTextConfig.from_dict(
                    config.get("text_config", config)
                )
                return getattr(transformers, class_name)(text_config)
            return getattr(diffusers, class_name).from_config(config)
    except CONFIG_FAULTS as error:
        raise InputError(
            f"`{folder / 'config.json'}` must describe a {class_name}",
            f"{type(error).__name__}: {shorten(error)}",
        ) from None


def _check_sizes(config: Mapping[str, Any], where: Path) -> None:
    """Bound what a config asks for before it is built: layers take time even without memory.

    NaN would only show in pictures.
    """
    layers = 1
    for name, value in config.items():
        if isinstance(value, dict):
            _check_sizes(value, where)
            continue
        entries = value if isinstance(value, list) else [value]
        flat = [one for item in entries for one in (item if isinstance(item, list) else [item])]
        largest = max((abs(one) for one in flat if isinstance(one, int)), default=0)
        if len(flat) > _MAX_ENTRIES or largest > _MAX_NUMBER:
            raise InputError(
                f"`{name}` in `{where}` must be up to {_MAX_ENTRIES} numbers up to {_MAX_NUMBER}",
                shorten(repr(value)),
            )
        if not all(math.isfinite(one) for one in flat if isinstance(one, float)):
            raise InputError(f"`{name}` in `{where}` must be finite", shorten(repr(value)))
        if "layers" in name or name.endswith("_blocks"):
            layers *= max(1, largest)
        elif name == "block_out_channels":
            layers *= max(1, len(flat))
    if layers > _MAX_LAYERS:
        raise InputError(f"`{where}` must ask for at most {_MAX_LAYERS} layers", str(layers))


def _check_version(config: Mapping[str, Any], where: Path) -> None:
    """What wrote a config: diffusers' pipelines compare it with versions of their own."""
    written = config.get("_diffusers_version", "0")
    try:
        Version(written)
    except (InvalidVersion, TypeError):
        raise InputError(
            f"`_diffusers_version` in `{where}` must be a version", shorten(repr(written))
        ) from None


def _check_config_class(folder: Path, found: Any, accepted: tuple[str | None, ...]) -> None:
    if found not in accepted:
        raise InputError(f"`{folder / 'config.json'}` must describe a {accepted[0]}", repr(found))


def shorten(problem: object) -> str:
    """What went wrong, on one line that fits a terminal."""
    text = " ".join(str(problem).split())
    return text if len(text) <= 160 else f"{text[:157]}..."


def expected_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a checkpoint of this model holds."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def materialise(model: torch.nn.Module, state: dict[str, torch.Tensor], device: str) -> None:
    """Give an empty model its tensors, freeze it and put it in evaluation mode."""
    model.load_state_dict(state, strict=True, assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, _derived_buffer(leaf, buffer, device))
    model.requires_grad_(False).eval()


def _derived_buffer(leaf: str, buffer: torch.Tensor, device: str) -> torch.Tensor:
    # Buffers that checkpoints leave out are computed by the constructor, which ran on meta.
    if leaf != "position_ids":
        raise RuntimeError(f"no rule to compute the buffer {leaf}")
    return torch.arange(buffer.shape[-1], device=device).expand(buffer.shape).clone()


def load_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer from `vocab.json` and `merges.txt`, or from `tokenizer.json` alone.

    Without a `tokenizer_config.json` its length is that of the text encoder beside it.

    Raises:
        InputError: neither is there, or they cannot be read.
    """
    slow = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not slow and not (folder / "tokenizer.json").is_file():
        raise InputError(
            f"`{folder}` must hold `vocab.json` and `merges.txt`, or `tokenizer.json`",
            ", ".join(sorted(path.name for path in folder.glob("*"))) or "an empty folder",
            SAVE_AGAIN,
        )
    kind = transformers.CLIPTokenizer if slow else transformers.CLIPTokenizerFast
    own = {} if (folder / "tokenizer_config.json").is_file() else _length_of_encoder(folder)
    try:
        tokenizer = kind.from_pretrained(str(folder), local_files_only=True, **own)
    except Exception as error:  # the Rust tokenizers raise bare Exception
        raise InputError(
            f"`{folder}` must hold a CLIP tokenizer", shorten(error), SAVE_AGAIN
        ) from None
    if not isinstance(tokenizer, kind):  # False, where a file is damaged in some ways
        raise InputError(f"`{folder}` must hold a CLIP tokenizer", repr(tokenizer), SAVE_AGAIN)
    return tokenizer


def _length_of_encoder(tokenizer: Path) -> dict[str, int]:
    encoder = tokenizer.with_name(tokenizer.name.replace("tokenizer", "text_encoder"))
    config = read_config(encoder / "config.json")
    inner = config.get("text_config", config)
    length = inner.get("max_position_embeddings") if isinstance(inner, dict) else None
    return {"model_max_length": length} if type(length) is int else {}


def load_scheduler(folder: Path) -> Any:
    """The diffusers scheduler that `scheduler_config.json` names.

    Raises:
        InputError: the config is missing, or is not of a diffusers scheduler that works.
    """
    path = folder / SCHEDULER_FILE
    config = read_config(path)
    name = str(config.get("_class_name"))
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise InputError(f"`{path}` must name a diffusers scheduler", f"_class_name={name}")
    count = config.get("num_train_timesteps", 1000)
    if type(count) is not int or not 2 <= count <= _MAX_NUMBER:
        raise InputError(
            f"`2 <= num_train_timesteps <= {_MAX_NUMBER}` must hold in `{path}`", repr(count)
        )
    try:
        return getattr(diffusers, name).from_config(config)
    except CONFIG_FAULTS as error:
        raise InputError(f"`{path}` must describe a {name}", shorten(error)) from None
