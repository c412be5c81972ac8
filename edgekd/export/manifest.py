"""`manifest.json` of an exported folder: what it is, where it came from, and the proof."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from edgekd import __version__
from edgekd.artifacts import (
    ARTIFACT_FILE,
    hash_file,
    hash_tree,
    hash_value,
    read_json,
    write_json,
)
from edgekd.errors import InputError
from edgekd.export.parity import ComponentParity, PictureParity
from edgekd.export.protocol import Generation

MANIFEST_FILE = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class ComponentFacts:
    """One part of an export: its parity, its size on disk and what it took.

    Attributes:
        peak_rss_bytes: largest resident memory of the process that converted or checked it,
            Python and libraries included.
        details: what the exporter tells of it.
    """

    precision: str
    parity: ComponentParity
    bytes: int
    seconds: float
    peak_rss_bytes: int
    details: dict[str, Any]

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

    def to_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        return {**facts.pop("details"), **facts}


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def scheduler_warning(scheduler: str, known: tuple[str, ...]) -> str | None:
    """A sentence for the user where the target's clients do not know the scheduler."""
    if scheduler in known:
        return None
    return (
        f"the pipeline's scheduler {scheduler} is not among those that the target's clients know "
        f"({', '.join(known)}): set one of these when you draw"
    )


def find_licence(pipeline_path: Path) -> str | None:
    """Licence of a pipeline folder: from its model card, else the name of its licence file."""
    card = pipeline_path / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        header = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        try:
            facts = yaml.safe_load(header.group(1)) if header else None
        except yaml.YAMLError:
            facts = None  # a card that others cannot read either
        if isinstance(facts, Mapping) and isinstance(facts.get("license"), str):
            return str(facts["license"])
    for name in ("LICENSE", "LICENSE.md", "LICENSE.txt"):
        if (pipeline_path / name).is_file():
            return f"see {name} of the source"
    return None


def source_hash(pipeline_path: Path) -> str:
    """Content hash of the pipeline that is exported."""
    return hash_tree(pipeline_path, exclude=(ARTIFACT_FILE,))


def source_facts(pipeline_path: Path, lora: Path | None) -> dict[str, Any]:
    """Where an export came from: `hash` over all of it, `licence`, and the LoRA's file."""
    source, fused = source_hash(pipeline_path), None
    if lora is not None:
        fused = {"file": lora.name, "hash": hash_file(lora)}
        source = hash_value([source, fused["hash"]])
    return {"hash": source, "licence": find_licence(pipeline_path), "lora": fused}


def content_hash(exported_path: Path) -> str:
    """Content hash of what a client loads: equal for equal exports, whenever they were made."""
    return hash_tree(exported_path, exclude=(ARTIFACT_FILE, MANIFEST_FILE))


def all_versions(exporter_facts: dict[str, Any]) -> dict[str, str]:
    """Versions of everything that took part in an export."""
    return {**versions(), **exporter_facts.get("versions", {})}


def versions() -> dict[str, str]:
    """Versions of what takes part in every export."""
    names = ("diffusers", "optimum", "torch", "transformers")
    return {
        "edgekd": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def write_manifest(
    folder: Path,
    *,
    runtime: str,
    precision: str,
    reproducible: bool,
    key: str,
    source: dict[str, Any],
    scheduler: str,
    warning: str | None,
    shapes: dict[str, Any],
    components: dict[str, ComponentFacts],
    pictures: PictureParity,
    generation: Generation,
    exporter_facts: dict[str, Any],
    seconds: float,
    memory: dict[str, Any],
    quantization: dict[str, Any] | None = None,
) -> None:
    """Write the manifest of a folder whose other files are all there."""
    other_facts = {name: value for name, value in exporter_facts.items() if name != "versions"}
    write_json(
        folder / MANIFEST_FILE,
        {
            "format": FORMAT,
            "runtime": runtime,
            "precision": precision,
            "key": key,
            "content_hash": content_hash(folder),
            "reproducible": reproducible,
            "source": source,
            "scheduler": scheduler,
            "warning": warning,
            "shapes": shapes,
            "recommended": asdict(generation),
            "components": {name: facts.to_dict() for name, facts in components.items()},
            "pictures": asdict(pictures),
            "bytes": folder_bytes(folder),
            "seconds": round(seconds, 2),
            "memory": memory,
            "quantization": quantization,
            **other_facts,
            "versions": all_versions(exporter_facts),
        },
    )


def read_manifest(exported_path: Path) -> dict[str, Any]:
    """The manifest of an exported folder.

    Raises:
        InputError: there is none, or it is of another format.
    """
    manifest = read_json(exported_path / MANIFEST_FILE)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(
            f"`{exported_path / MANIFEST_FILE}` must be a manifest of format {FORMAT}",
            str(manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__),
        )
    return manifest
