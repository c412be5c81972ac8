"""Write `report.html` (one file, no outside resources) and `report.md` from report figures.

Captions and names are untrusted: the page escapes everything (Jinja2
autoescape), Markdown escapes its own marks and HTML's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgekd.files import write_text
from edgekd.report import format as fmt
from edgekd.report import notes, plots, search, tables, view
from edgekd.report.pictures import Gallery, data_uri, write_sheet
from edgekd.report.schema import Report
from edgekd.report.svg import row_series

PICTURES_FILE = "pictures.png"


def render(report: Report, out: Path, gallery: Gallery) -> None:
    """Write `report.html`, `report.md` and the picture sheet that Markdown shows.

    Args:
        report: what `report.json` holds.
        gallery: pictures of the same prompts for every row.
    """
    environment = _environment()
    write_sheet(gallery, out / PICTURES_FILE)
    for template in ("report.html", "report.md"):
        context = page_context(report, gallery, with_plots=template.endswith(".html"))
        text = environment.get_template(f"{template}.j2").render(context)
        write_text(out / template, text)


def _environment() -> Any:
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
    return environment


def escape_markdown(text: Any) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, on one line."""
    flat = " ".join(str(text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", flat)


def page_context(report: Report, gallery: Gallery, with_plots: bool) -> dict[str, Any]:
    """Everything the templates show, as texts, tables and plots."""
    shown = [
        view.agreement_table(report),
        tables.speed_table(report),
        tables.memory_table(report),
        tables.component_table(report),
        tables.parity_table(report),
    ]
    context: dict[str, Any] = {
        "report": report,
        "headline": report.metrics.rows,
        "cards": view.cards(report),
        "matrix": view.matrix_table(report),
        "tables": [table for table in shown if table is not None],
        "absent": [row for row in report.rows if row.not_executed],
        "evaluated": [row for row in report.rows if row.evaluated],
        "torch_latency": view.torch_latency(report),
        "search": search.search_sentences(report),
        "front": search.front_table(report),
        "busy": view.busy_warning(report),
        "environment": notes.environment_items(report),
        "notes": notes.notes(report),
        "gallery": gallery,
        "series": row_series(report.rows),
        "pictures_file": PICTURES_FILE,
        "fmt": fmt,
    }
    if with_plots:
        latency = plots.latency_quality(report)
        context["plots"] = {
            "quality": plots.quality_dots(report) if latency is None else latency,
            "quality_title": "Quality of each row" if latency is None else "Latency and quality",
            "raw": plots.raw_latencies(report),
            "front": search.front_plot(report),
            "curves": plots.loss_curves(report.curves, report.rows),
            "projection": plots.projection(report),
        }
    return context
