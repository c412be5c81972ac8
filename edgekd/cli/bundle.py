"""`edgekd bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import JsonOption, print_json


def bundle(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|EXPORT", help="A run folder, or an exported one.")
    ],
    kind: Annotated[
        str,
        typer.Option("--for", metavar="KIND", help="web, node, desktop, android, ios or macos."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundle.")],
    zipped: Annotated[bool, typer.Option("--zip", help="Also write OUT.zip.")] = False,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Default: the kind's, or the export's.")
    ] = None,
    licence: Annotated[
        Path | None,
        typer.Option("--license", metavar="FILE", help="Text of the model's licence."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a student into an app: a folder with model, code, licences and README."""
    from edgekd.jobs.bundle import BundleRequest, bundle_run, to_json
    from edgekd.progress import console

    made = bundle_run(BundleRequest(source, kind, out, precision, licence, zipped), console())
    if as_json:
        print_json(to_json(made))
    else:
        size = f"{made.facts.bytes / 1e6:.1f} MB in {len(made.facts.files)} files"
        print(f"bundle: {made.path} ({size}; README.md says how to use it)")
        if made.archive is not None:
            print(f"zip: {made.archive} ({made.archive.stat().st_size / 1e6:.1f} MB)")
