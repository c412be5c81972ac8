"""Write a report's files: `report.html` (one file, no outside resources), Markdown and CSV.

Captions and names are untrusted: the page escapes everything (Jinja2
autoescape), Markdown escapes its own marks and HTML's, CSV quotes formulas.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from edgekd.files import write_text
from edgekd.report import (
    costs,
    devices,
    features,
    headline,
    matrix,
    notes,
    search,
    sheet,
    tables,
    view,
)
from edgekd.report.pictures import Gallery, data_uri, sheet_uri, write_sheet
from edgekd.report.plots import features as feature_plots
from edgekd.report.plots import latency, quality, training
from edgekd.report.schema import Report
from edgekd.report.svg import row_series
from edgekd.report.training import training_sentences

PICTURES_FILE: Final = "pictures.png"
# Beside `report.json`.
RENDERED_FILES: Final = ("report.html", "report.md", "report.csv", PICTURES_FILE)
# More rows of pictures than this begin folded.
_OPEN_PICTURES = 6


def render(report: Report, out: Path, gallery: Gallery) -> None:
    """Write `RENDERED_FILES`.

    Args:
        report: what `report.json` holds.
        gallery: pictures of the same prompts for every row.
    """
    templates = template_environment()
    write_sheet(gallery, out / PICTURES_FILE)
    write_text(out / "report.csv", sheet.csv_text(report))
    context = page_context(report, gallery)
    write_text(out / "report.md", templates.get_template("report.md.j2").render(context))
    context["plots"] = page_plots(report)
    write_text(out / "report.html", templates.get_template("report.html.j2").render(context))


def template_environment() -> Any:
    """Jinja2 with this package's templates and filters; pages escape whatever is put in."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekd.report", "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = escape_markdown
    environment.filters["picture"] = data_uri
    environment.filters["sheet"] = sheet_uri
    return environment


def escape_markdown(text: Any) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, on one line."""
    flat = " ".join(str(text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", flat)


def page_context(report: Report, gallery: Gallery) -> dict[str, Any]:
    """Everything the templates show, as texts and tables; other devices stand apart."""
    here = report.here
    shown = [
        *devices.cost_tables(here),
        tables.component_table(here),
        tables.parity_table(here),
        costs.training_table(here),
    ]
    return {
        "report": report,
        "headline": headline.headline_text(report),
        "cards": view.cards(report),
        "matrix": matrix.matrix_table(here),
        "agreement": view.agreement_table(here),
        "tables": [table for table in shown if table is not None],
        "absent": view.absent_sentences(here),
        "devices": devices.device_parts(report),
        "torch_latency": view.torch_latency(report),
        "search": search.search_sentences(report),
        "front": search.front_table(report),
        "training": training_sentences(report.curves),
        "busy": view.busy_warning(here),
        "scaling": costs.scaling_table(report),
        "nearness": features.nearness_table(report),
        "inner": features.inner_features(report),
        "environment": notes.environment_items(here),
        "notes": notes.notes(report),
        "gallery": gallery,
        "open_pictures": _OPEN_PICTURES,
        "series": row_series(report.rows),
        "pictures_file": PICTURES_FILE,
    }


def page_plots(report: Report) -> dict[str, Any]:
    """All plots of the page, by their place in it; None where there is nothing to plot."""
    return {
        "pareto": quality.latency_quality(report),
        "dots": quality.quality_dots(report),
        "raw": latency.raw_latencies(report),
        "devices": {
            one.name: [
                quality.latency_quality(report, one.name),
                latency.raw_latencies(report, one.name),
            ]
            for one in report.devices
        },
        "scaling": latency.scaling(report),
        "front": quality.search_front(report),
        "curves": training.loss_curves(report.curves, report.rows),
        "projections": feature_plots.projections(report),
        "blocks": [
            feature_plots.block_projections(one, report, f"blocks-{index}")
            for index, one in enumerate(report.embeddings)
        ],
    }
