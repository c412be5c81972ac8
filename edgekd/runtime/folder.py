"""An exported folder: what its manifest and configurations say, checked before anything is loaded.

manifest.json  model_index.json  scheduler/  tokenizer/  [tokenizer_2/]
text_encoder/  [text_encoder_2/]  unet/  vae_decoder/   each with config.json and its model
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.reading import read_object
from edgekd.runtime.options import RuntimeOptions, read_options
from edgekd.runtime.scheduler_config import SchedulerConfig, parse_config

FORMAT = 1
# Pipeline class in diffusers -> whether it is of the XL kind. Exports for optimum's classes carry
# their prefix.
_PIPELINES = {
    "StableDiffusionPipeline": False,
    "LatentConsistencyModelPipeline": False,
    "StableDiffusionXLPipeline": True,
}
_PREFIXES = ("ORT", "OV")


@dataclass(frozen=True)
class Shapes:
    """Picture sides in pixels: what was exported, and what else may be asked for.

    Attributes:
        native: height and width that the student was made for.
        multiple: both sides must be a multiple of this.
        dynamic: whether other sizes and batches than the native ones can be drawn.
    """

    native: tuple[int, int]
    multiple: int
    dynamic: bool


@dataclass(frozen=True)
class Latents:
    """How pictures are coded.

    Attributes:
        channels: of the latents.
        scale: picture side over latent side.
        factor: what the decoder's input is divided by.
        mean, std: per channel, where the decoder wants them.
    """

    channels: int
    scale: int
    factor: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class ExportedFolder:
    """Everything but the models.

    Attributes:
        runtime, precision: what the folder was exported for.
        options: how the runtime is to run it.
        is_sdxl: two text encoders, size conditioning.
        steps, guidance_scale: as its maker recommends.
        zero_negative: XL: a missing negative prompt is zeros instead of an empty prompt's encoding.
        guidance_width: width of the guidance conditioning of a latent consistency U-Net, else None.
    """

    path: Path
    runtime: str
    precision: str
    options: RuntimeOptions
    is_sdxl: bool
    steps: int
    guidance_scale: float
    zero_negative: bool
    guidance_width: int | None
    shapes: Shapes
    latents: Latents
    scheduler: SchedulerConfig


def read_folder(path: Path) -> ExportedFolder:
    """Read an exported folder.

    Raises:
        InputError: a file is missing or damaged, or something is of a kind unknown here.
    """
    if not path.is_dir():
        raise InputError("the exported pipeline must be a folder", str(path))
    manifest = read_object(path / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"`{path / 'manifest.json'}` must be a manifest of format {FORMAT}",
            str(manifest.get("format")),
        )
    index = read_object(path / "model_index.json")
    unet = read_object(path / "unet" / "config.json")
    try:
        return _assemble(path, manifest, index, unet)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"manifest.json and the config.json files of `{path}` must be those of an export",
            f"{type(error).__name__} ({error})",
        ) from None


def _assemble(
    path: Path, manifest: dict[str, Any], index: dict[str, Any], unet: dict[str, Any]
) -> ExportedFolder:
    is_sdxl = _is_sdxl(str(index["_class_name"]))
    recommended = manifest["recommended"]
    width = unet.get("time_cond_proj_dim")
    return ExportedFolder(
        path=path,
        runtime=str(manifest["runtime"]),
        precision=str(manifest["precision"]),
        options=read_options(manifest),
        is_sdxl=is_sdxl,
        steps=int(recommended["steps"]),
        guidance_scale=float(recommended["guidance_scale"]),
        zero_negative=is_sdxl and bool(index.get("force_zeros_for_empty_prompt", True)),
        guidance_width=None if width is None else int(width),
        shapes=_shapes(manifest["shapes"]),
        latents=_latents(read_object(path / "vae_decoder" / "config.json"), unet, is_sdxl),
        scheduler=parse_config(read_object(path / "scheduler" / "scheduler_config.json")),
    )


def _is_sdxl(name: str) -> bool:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name not in _PIPELINES:
        raise InputError(f"the pipeline must be one of {', '.join(_PIPELINES)}", name)
    return _PIPELINES[name]


def _shapes(values: dict[str, Any]) -> Shapes:
    height, width = (int(side) for side in values["native"])
    return Shapes((height, width), int(values["multiple"]), bool(values["dynamic"]))


def _latents(decoder: dict[str, Any], unet: dict[str, Any], is_sdxl: bool) -> Latents:
    # The other pipelines take no notice of means and deviations.
    mean, std = (decoder.get(name) if is_sdxl else None for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        mean = std = None
    return Latents(
        channels=int(unet["in_channels"]),
        scale=int(2 ** (len(decoder["block_out_channels"]) - 1)),
        factor=float(decoder["scaling_factor"]),
        mean=None if mean is None else tuple(map(float, mean)),
        std=None if std is None else tuple(map(float, std)),
    )
