"""What can be refused before an export's work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgekd.errors import InputError
from edgekd.export.outline import is_tiny
from edgekd.export.protocol import Exporter, ExportOptions

Precision = TypeVar("Precision")


def find_precision(precisions: Mapping[str, Precision], name: str) -> Precision:
    """A row of an exporter's table.

    Raises:
        InputError: there is none of this name.
    """
    if name not in precisions:
        raise InputError(f"the precision must be one of {', '.join(precisions)}", repr(name))
    return precisions[name]


def check_capabilities(exporter: Exporter, pipeline: Any, precision: str | None) -> None:
    """Hold a pipeline against what an exporter declares.

    Args:
        pipeline: diffusers pipeline; its weights are not looked at.
        precision: None: that of a recipe, which was checked by itself.

    Raises:
        InputError: a precision or a VAE that the exporter does not take.
    """
    if precision is not None and precision not in exporter.precisions:
        raise InputError(
            f"the precision of `{exporter.name}` must be one of {', '.join(exporter.precisions)}",
            repr(precision),
        )
    if is_tiny(pipeline.vae) and not exporter.accepts_tiny_decoder:
        raise InputError(
            f"the VAE must be an AutoencoderKL, clients of `{exporter.name}` know no other",
            type(pipeline.vae).__name__,
        )


def check_room(sizes: dict[str, int], out: Path, options: ExportOptions) -> None:
    """A large model is converted for minutes: say before it, not after it, that it will not fit."""
    whole = sum(sizes.values())
    # All parts in float32, the scratch of the largest, and the copy that LoRAs are fused into.
    needed = whole + max(sizes.values()) + (whole if options.loras else 0)
    place = next(folder for folder in (out, *out.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"the disk of the export folder must have {needed / 1e6:.0f} MB free",
            f"{free / 1e6:.0f} MB at {place}",
            "Free some space or pass another --out.",
        )
