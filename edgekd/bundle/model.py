"""The model inside a bundle: the files that a client needs, and `model.json`, which lists them.

Every app reads `model.json` first: how to draw, and the size and hash of every file beside it. The
folder is also one that `edgekd.runtime` opens: it keeps a `manifest.json`, without what the export
measured on the machine that made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.kind import Contents
from edgekd.export.manifest import MANIFEST_FILE
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import hash_file, write_json, write_text
from edgekd.model_card import CARD_FILE
from edgekd.reading import read_object

MODEL_FILE = "model.json"
FORMAT = 1
# What a client that draws from text never reads.
_LEFT_OUT = (ARTIFACT_FILE, CARD_FILE, MANIFEST_FILE, "vae_encoder", "VAEEncoder.*")
_SCHEDULER = "scheduler/scheduler_config.json"


class FileFacts(BaseModel):
    """One file."""

    bytes: int
    sha256: str


class DrawnAs(BaseModel):
    """How pictures are drawn, as the student was trained; sides in pixels."""

    sampler: str
    steps: int
    guidance_scale: float
    height: int
    width: int


class Sides(BaseModel):
    """Picture sides that can be drawn: the native ones, or multiples where `dynamic`."""

    multiple: int
    dynamic: bool


class LatentFacts(BaseModel):
    """How pictures are coded.

    Attributes:
        channels: of the latents.
        scale: picture side over latent side.
        factor: latents are divided by it before they are decoded.
        mean, std: SDXL, where the decoder wants them: `latents * std / factor + mean`.
    """

    channels: int
    scale: int
    factor: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


class ModelFacts(BaseModel):
    """`model.json`: all that an app must know beside the files themselves.

    Attributes:
        name: of the model, for people.
        runtime, precision: of the export.
        pipeline: its class in diffusers.
        is_sdxl: two text encoders, size conditioning.
        zero_negative: SDXL: an empty negative prompt is zeros.
        guidance_width: width of the U-Net's input `timestep_cond`; null: it has none.
        licence: null: nobody said.
        scheduler: `scheduler_config.json`; infinity, which JSON has not, is a text.
        source: content hash of the export.
        files: path, with `/`, relative to the folder of `model.json`.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    name: str
    runtime: str
    precision: str
    pipeline: str
    is_sdxl: bool
    zero_negative: bool
    guidance_width: int | None
    generation: DrawnAs
    sides: Sides
    latents: LatentFacts
    scheduler: dict[str, object]
    licence: str | None
    source: str
    files: dict[str, FileFacts]


def copy_model(contents: Contents, folder: Path) -> ModelFacts:
    """Copy what a client needs of the exported folder to a new folder, and write `model.json`.

    Raises:
        InputError: no room, or nothing can be written there.
    """
    copy_tree(contents.path, folder, without=_LEFT_OUT)
    write_json(folder / _SCHEDULER, _scheduler(contents))
    kept = ("format", "runtime", "precision", "shapes", "recommended")
    manifest = read_object(contents.path / MANIFEST_FILE)
    write_json(folder / MANIFEST_FILE, {name: manifest[name] for name in kept})
    return write_model(contents, folder)


def _scheduler(contents: Contents) -> dict[str, object]:
    config = read_object(contents.path / _SCHEDULER)
    infinite = {float("inf"): "Infinity", float("-inf"): "-Infinity"}
    return {
        name: infinite.get(value, value) if isinstance(value, float) else value
        for name, value in config.items()
    }


def write_model(contents: Contents, folder: Path) -> ModelFacts:
    """Write `model.json` for the files of a folder, for kinds with a layout of their own."""
    exported, drawn = contents.exported, contents.generation
    coding, shapes = exported.latents, exported.shapes
    facts = ModelFacts(
        format=FORMAT,
        name=contents.name,
        runtime=exported.runtime,
        precision=exported.precision,
        pipeline=contents.pipeline,
        is_sdxl=exported.is_sdxl,
        zero_negative=exported.zero_negative,
        guidance_width=exported.guidance_width,
        generation=DrawnAs(**vars(drawn)),
        sides=Sides(multiple=shapes.multiple, dynamic=shapes.dynamic),
        latents=LatentFacts(**vars(coding)),
        scheduler=_scheduler(contents),
        licence=contents.licence.name,
        source=contents.content_hash,
        files=list_files(folder, without=(MODEL_FILE,)),
    )
    write_text(folder / MODEL_FILE, facts.model_dump_json(indent=2) + "\n")
    return facts


def list_files(folder: Path, without: tuple[str, ...] = ()) -> dict[str, FileFacts]:
    """Size and hash of every file below a folder, by path, in order.

    Args:
        without: paths that are left out.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        name: FileFacts(bytes=path.stat().st_size, sha256=hash_file(path))
        for path in paths
        if (name := path.relative_to(folder).as_posix()) not in without
    }
