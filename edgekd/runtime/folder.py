"""An exported folder: what its manifest and configurations say, checked before anything is loaded.

manifest.json  model_index.json  scheduler/  tokenizer/  [tokenizer_2/]
text_encoder/  [text_encoder_2/]  unet/  vae_decoder/   each with config.json and its model
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import InputError
from edgekd.reading import Fields, read_object
from edgekd.runtime.options import RuntimeOptions, read_options
from edgekd.runtime.sampler_names import sampler_class, with_sampler
from edgekd.runtime.scheduler_config import SchedulerConfig, parse_config

FORMAT = 1
_MAX_SIDE = 1 << 15  # of a picture; and more steps or guidance than anyone takes
# Pipeline class in diffusers -> whether it is of the XL kind. Exports for optimum's classes carry
# their prefix.
_PIPELINES = {
    "StableDiffusionPipeline": False,
    "LatentConsistencyModelPipeline": False,
    "StableDiffusionXLPipeline": True,
}
_NAMED = 4  # folders in a message
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

    def check(self, size: tuple[int, int]) -> None:
        """Whether pictures of this height and width can be drawn.

        Raises:
            InputError: they cannot.
        """
        found = f"height={size[0]}, width={size[1]}"
        if not self.dynamic and size != self.native:
            height, width = self.native
            raise InputError(f"pictures of this export must be {height} by {width} pixels", found)
        if any(side < 1 or side % self.multiple for side in size):
            raise InputError(
                f"height and width must be positive multiples of {self.multiple}", found
            )


@dataclass(frozen=True)
class LatentCoding:
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
    latents: LatentCoding
    scheduler: SchedulerConfig


def read_folder(path: Path, sampler: str | None = None) -> ExportedFolder:
    """Read an exported folder.

    Args:
        sampler: another sampler than the folder's, on the noise schedule of its own.

    Raises:
        InputError: a file is missing or damaged, or something is of a kind unknown here.
    """
    if not path.is_dir():
        raise InputError("the exported pipeline must be a folder", str(path))
    if not (path / "manifest.json").exists():
        raise InputError(
            "the folder must be one that `edgekd export` wrote",
            f"no manifest.json in {path}",
            _exports_in(path),
        )
    manifest = Fields.read(path / "manifest.json")
    if manifest.values.get("format") != FORMAT:
        raise InputError(
            f"`{path / 'manifest.json'}` must be a manifest of format {FORMAT}",
            str(manifest.values.get("format")),
        )
    index = Fields.read(path / "model_index.json")
    unet = Fields.read(path / "unet" / "config.json")
    decoder = Fields.read(path / "vae_decoder" / "config.json")
    is_sdxl = is_sdxl_class(index.text("_class_name"))
    recommended, width = manifest.inner("recommended"), "time_cond_proj_dim"
    return ExportedFolder(
        path=path,
        runtime=manifest.text("runtime"),
        precision=manifest.text("precision"),
        options=read_options(manifest),
        is_sdxl=is_sdxl,
        steps=recommended.integer("steps", 1, _MAX_SIDE),
        guidance_scale=recommended.number("guidance_scale", 0, _MAX_SIDE),
        zero_negative=is_sdxl and index.truth("force_zeros_for_empty_prompt", True),
        guidance_width=unet.integer(width, 4, _MAX_SIDE) if unet.has(width) else None,
        shapes=_shapes(manifest.inner("shapes")),
        latents=_latents(decoder, unet, is_sdxl),
        scheduler=read_scheduler(path, sampler),
    )


def _exports_in(path: Path) -> str:
    """A sentence with the exported folders in this one, if there are any."""
    found = [
        file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/manifest.json")
    ]
    names = " or ".join(f"`{folder}`" for folder in sorted(found)[:_NAMED])
    return f"Did you mean {names}?" if names else ""


def read_scheduler(path: Path, sampler: str | None) -> SchedulerConfig:
    config = read_object(path / "scheduler" / "scheduler_config.json")
    return parse_config(config if sampler is None else with_sampler(config, sampler_class(sampler)))


def is_sdxl_class(name: str) -> bool:
    """Whether a pipeline's class, in diffusers or in optimum, is of the XL kind.

    Raises:
        InputError: it is none that is drawn with here.
    """
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    if name not in _PIPELINES:
        raise InputError(f"the pipeline must be one of {', '.join(_PIPELINES)}", name)
    return _PIPELINES[name]


def _shapes(values: Fields) -> Shapes:
    sides = dict(zip(("height", "width"), values.entries("native", range(2, 3)), strict=True))
    native = Fields(f"{values.where}, native", sides)
    height, width = (native.integer(name, 1, _MAX_SIDE) for name in sides)
    return Shapes(
        (height, width), values.integer("multiple", 1, _MAX_SIDE), values.truth("dynamic")
    )


def _latents(decoder: Fields, unet: Fields, is_sdxl: bool) -> LatentCoding:
    channels = unet.integer("in_channels", 1, 64)
    # The other pipelines take no notice of means and deviations.
    centred = is_sdxl and decoder.has("latents_mean") and decoder.has("latents_std")
    return LatentCoding(
        channels=channels,
        scale=int(2 ** (len(decoder.entries("block_out_channels", range(1, 9))) - 1)),
        factor=decoder.number("scaling_factor", 1e-6, 1e6),
        mean=decoder.numbers("latents_mean", channels) if centred else None,
        std=decoder.numbers("latents_std", channels) if centred else None,
    )
