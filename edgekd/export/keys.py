"""What an export depends on, and whether a finished one can be started from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edgekd.export.manifest import all_versions, read_manifest
from edgekd.export.protocol import Exporter, ExportOptions
from edgekd.files import hash_value


def export_key(
    exporter: Exporter,
    source: str,
    precision: str,
    options: ExportOptions,
) -> str:
    """Content hash of everything that an export depends on.

    Args:
        source: content hash of the pipeline and of what is fused into it.
    """
    return hash_value(
        {
            "source": source,
            "runtime": exporter.name,
            "precision": precision,
            "prompts": options.prompts,
            "generation": asdict(options.generation),
            "versions": all_versions(exporter.runtime),
            "exporter": exporter.facts(),
            "quantization": options.quantization and options.quantization.model_dump(),
            "min_psnr_db": options.min_psnr_db,
        }
    )


def usable_base(exporter: Exporter, base: Path | None, source: str) -> Path | None:
    """The base, unless it is of another source or was made by other versions."""
    if base is None:
        return None
    manifest = read_manifest(base)
    found = (manifest.runtime, manifest.precision, manifest.source.hash, manifest.versions)
    wanted = (exporter.name, exporter.precisions[0], source, all_versions(exporter.runtime))
    return base if found == wanted else None
