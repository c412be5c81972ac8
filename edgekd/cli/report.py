"""`edgekd report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.options import JsonOption, print_json


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="REPORT…", help="report.json, or the folder of a report or a run."),
    ],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="RULE",
            help="Exit with 3 if this holds, as 'score<0.95': of the ratio student / teacher of "
            "one report, of the students' ratio last / first of several. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the comparison as this .html file too.")
    ] = None,
    seeds: Annotated[
        bool,
        typer.Option(
            "--seeds", help="Of one suite with other seeds: means and standard deviations instead."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare benchmark reports over time or machines: what is better, worse, or within noise."""
    from edgekd.errors import InputError
    from edgekd.jobs.report import compare_run, seeds_run
    from edgekd.report.rules import raise_failed

    if seeds and (fail_on or out is not None):
        raise InputError("`--seeds` compares nothing", "it with --fail-on or --out")
    found = seeds_run(paths) if seeds else compare_run(paths, fail_on or [], out)
    if as_json:
        print_json(found.content.model_dump(mode="json"))
    else:
        print("\n".join(found.lines))
    raise_failed(found.gates)
