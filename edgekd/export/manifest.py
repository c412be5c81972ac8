"""`manifest.json` of an exported folder: what it is, where it came from, and the proof."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd import __version__
from edgekd.errors import InputError
from edgekd.export.bits.recipe import ChoiceFigures
from edgekd.export.lora import Lora
from edgekd.export.parity import ComponentParity
from edgekd.export.picture_parity import PictureParity
from edgekd.export.protocol import Generation
from edgekd.file_record import ARTIFACT_FILE, restamp
from edgekd.files import hash_file, hash_tree, hash_value, write_json
from edgekd.model_card import CARD_FILE, find_licence
from edgekd.reading import read_json
from edgekd.runtime.declared import Runtime
from edgekd.runtime.folder import FORMAT, Shapes
from edgekd.runtime.sampler_names import with_sampler
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.scheduler_settings import SAMPLERS

MANIFEST_FILE = "manifest.json"
# Of latent consistency models: it steps from their own pictures with fresh noise.
_CONSISTENCY = "LCMScheduler"


class ComponentFacts(BaseModel):
    """One part of an export; the exporter's own facts are beside these.

    Attributes:
        peak_rss_bytes: largest resident memory of the process that converted or checked it,
            Python and libraries included.
    """

    model_config = ConfigDict(extra="allow")

    precision: str
    parity: ComponentParity
    bytes: int
    seconds: float
    peak_rss_bytes: int

    def summary(self) -> str:
        """For people: parity, size, time and memory."""
        parity = self.parity
        deployed = (
            f", {parity.deployed_snr_db:.1f} dB as deployed (floor {parity.deployed_floor_db:g})"
            if parity.deployed_snr_db is not None
            else ""
        )
        return (
            f"{parity.snr_db:.1f} dB (floor {parity.floor_db:g}){deployed}, "
            f"{self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s, "
            f"peak {self.peak_rss_bytes / 1e9:.2f} GB"
        )


class LoraOrigin(BaseModel):
    """A LoRA that was fused into the pipeline."""

    file: str
    hash: str
    weight: float


class Origin(BaseModel):
    """Where an export came from.

    Attributes:
        hash: of the pipeline's content, and of the LoRAs'.
        pipeline: its class in diffusers.
    """

    hash: str
    licence: str | None
    loras: list[LoraOrigin]
    pipeline: str


class MemoryFacts(BaseModel):
    """What the export took.

    Attributes:
        peak_rss_bytes: largest resident memory, all processes together.
        isolated: whether each step had a process of its own.
    """

    peak_rss_bytes: int
    isolated: bool
    limit_bytes: int | None


class RecipeFacts(BaseModel):
    """The recipe of an export whose weights have bits of their own; `recipe` is a file beside."""

    recipe: str
    method: str
    measured: ChoiceFigures | None


class Tuning(BaseModel):
    """Options of the runtime that were measured to be best; the tuner's figures are beside."""

    model_config = ConfigDict(extra="allow")

    chosen: dict[str, bool | int | str | None]


class Manifest(BaseModel):
    """The whole file; what an exporter tells of its runtime is beside these fields.

    Attributes:
        format: version of this schema.
        key: content hash of everything that the export depended on.
        content_hash: of what a client loads: equal for equal exports, whenever they were made.
        reproducible: whether an export of the same source gives the same files.
        warning: what a user of the folder should know.
        recommended: how pictures are drawn, as the pipeline's maker recommends.
        seconds: from the first check to this file.
    """

    model_config = ConfigDict(extra="allow")

    format: Literal[1]
    runtime: str
    precision: str
    key: str
    content_hash: str
    reproducible: bool
    source: Origin
    scheduler: str
    warning: str | None
    shapes: Shapes
    recommended: Generation
    components: dict[str, ComponentFacts]
    pictures: PictureParity
    bytes: int
    seconds: float
    memory: MemoryFacts
    quantization: RecipeFacts | None
    tuning: Tuning | None = None
    versions: dict[str, str]


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def scheduler_warning(scheduler: str, known: tuple[str, ...]) -> str | None:
    """A sentence for the user where the target's clients do not know the scheduler."""
    if scheduler in known:
        return None
    way = "set one of these when you draw"
    if scheduler == _CONSISTENCY:
        way = "no other draws a few-step student as it was trained, take a client that knows it"
    return (
        f"the pipeline's scheduler {scheduler} is not among those that the target's clients know "
        f"({', '.join(known)}): {way}"
    )


def runtime_warning(config: Mapping[str, Any]) -> str | None:
    """A sentence for the user where edgekd's runtime does not draw with the scheduler."""
    name = config["_class_name"]
    try:
        parse_config(config)
    except InputError as error:
        why = f" as it is set ({error.rule}, but got {error.found})" if name in SAMPLERS else ""
    else:
        return None
    other = next((one for one in SAMPLERS if _draws(config, one)), None)
    way = f": pass `--sampler {other}` to it" if other else ", nor with another sampler"
    return f"edgekd's runtime does not draw with {name}{why}{way}"


def _draws(config: Mapping[str, Any], name: str) -> bool:
    try:
        parse_config(with_sampler(config, name))
    except InputError:
        return False
    return True


def source_hash(pipeline_path: Path) -> str:
    """Content hash of the pipeline that is exported; what its card says is no content."""
    return hash_tree(pipeline_path, exclude=(ARTIFACT_FILE, CARD_FILE))


def trace_origin(pipeline_path: Path, loras: Sequence[Lora], pipeline: str) -> Origin:
    """Where an export of a pipeline, of this class, comes from."""
    source = source_hash(pipeline_path)
    fused = [
        LoraOrigin(file=lora.path.name, hash=hash_file(lora.path), weight=lora.weight)
        for lora in loras
    ]
    if fused:
        source = hash_value([source, *([lora.hash, lora.weight] for lora in fused)])
    licence = find_licence(pipeline_path)
    return Origin(hash=source, licence=licence, loras=fused, pipeline=pipeline)


def content_hash(exported_path: Path) -> str:
    """Content hash of what a client loads: equal for equal exports, whenever they were made."""
    return hash_tree(exported_path, exclude=(ARTIFACT_FILE, CARD_FILE, MANIFEST_FILE))


def all_versions(runtime: Runtime) -> dict[str, str]:
    """Versions of everything that takes part in an export for a runtime."""
    return {**versions(), **runtime.versions()}


def versions() -> dict[str, str]:
    """Versions of what takes part in every export."""
    names = ("diffusers", "optimum", "torch", "transformers")
    return {
        "edgekd": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))


def store_tuning(folder: Path, tuning: Tuning) -> Tuning:
    """Keep a choice in the manifest of a finished folder, whose other files stay as they are."""
    write_manifest(folder, read_manifest(folder).model_copy(update={"tuning": tuning}))
    restamp(folder, MANIFEST_FILE)
    return tuning


def read_manifest(exported_path: Path) -> Manifest:
    """The manifest of an exported folder.

    Raises:
        InputError: there is none, it is of another format, or it is damaged.
    """
    path = exported_path / MANIFEST_FILE
    values = read_json(path)
    found = values.get("format") if isinstance(values, dict) else type(values).__name__
    if found != FORMAT:
        raise InputError(f"`{path}` must be a manifest of format {FORMAT}", str(found))
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        rule = f"`{place}` of `{path}` must be as an export writes it"
        raise InputError(rule, first["msg"]) from None
