"""Model cards, `README.md` in the model hub's form: a YAML header of facts, then text.

The hub, diffusers' clients and edgekd itself read the header; edgekd's own facts are under `edgekd`
in it. What was measured follows last, and can be renewed without touching anything else: a card
belongs to no content hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edgekd import __version__
from edgekd.file_record import restamp
from edgekd.files import write_text
from edgekd.schema import YAML_FAULTS

CARD_FILE = "README.md"
_HEADER = re.compile(r"---\r?\n(.*?)\n---", re.DOTALL)
_MEASURED = "\n## Measured\n"
_LICENCE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt")
# As `huggingface_hub` names folders of its cache.
_CACHED = re.compile(r"models--([^/]+)--([^/]+)")


@dataclass(frozen=True)
class Card:
    """What a card says before anything is measured.

    Attributes:
        name: of the model.
        base_model: what it was made from.
        licence: fields of the header, see `licence_fields`.
        parameters: of inference, by diffusers' names; empty: the caller's choice.
        made: edgekd's own facts: hashes of recipe and teacher.
        text: what stands below the header.
    """

    name: str
    base_model: str
    text: str
    licence: Mapping[str, str] = field(default_factory=dict)
    datasets: Sequence[str] = ()
    tags: Sequence[str] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CardFigure:
    """One value of a metric on a data set.

    Attributes:
        metric: short name.
        title: full name, with extractor and sample counts.
        row: of the report.
    """

    metric: str
    title: str
    value: float
    unit: str
    row: str


@dataclass(frozen=True)
class MeasuredModel:
    """All figures of one model, and what they were measured on."""

    dataset: str
    dataset_key: str
    prompts: int
    figures: tuple[CardFigure, ...]


def read_header(folder: Path) -> Mapping[str, Any]:
    """The header of a folder's card; empty where there is none that can be read."""
    card = folder / CARD_FILE
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = _HEADER.match(text)
    try:
        values = yaml.safe_load(found[1]) if found else None
    except YAML_FAULTS:
        return {}  # a card that others cannot read either
    return values if isinstance(values, Mapping) else {}


def find_licence(folder: Path) -> str | None:
    """Licence of a pipeline folder: from its model card, else the name of its licence file."""
    said = read_header(folder).get("license")
    if isinstance(said, str):
        return said
    file = _licence_file(folder)
    return None if file is None else f"see {file} of the source"


def _licence_file(folder: Path) -> str | None:
    return next((name for name in _LICENCE_FILES if (folder / name).is_file()), None)


def licence_fields(folder: Path) -> dict[str, str]:
    """The licence of a pipeline folder as a header says it; empty: it is unknown."""
    header = read_header(folder)
    names = ("license", "license_name", "license_link")
    said = {name: header[name] for name in names if isinstance(header.get(name), str)}
    file = _licence_file(folder)
    if "license" in said or file is None:
        return said
    return {"license": "other", "license_name": "as-the-base-model", "license_link": file}


def model_name(folder: Path) -> str:
    """A model's name by its card, its place in the hub's cache (`owner/name`), or its folder."""
    header = read_header(folder)
    index = header.get("model-index")  # holds it from the first figures on
    first = index[0] if isinstance(index, list) and index else None
    said = first.get("name") if isinstance(first, Mapping) else header.get("model_name")
    if isinstance(said, str):
        return said
    cached = _CACHED.search(folder.as_posix())
    return f"{cached[1]}/{cached[2]}" if cached else folder.name


def write_card(folder: Path, card: Card) -> None:
    """Write a folder's card, without figures."""
    from huggingface_hub import ModelCardData

    fields: dict[str, Any] = dict(card.licence)
    if card.parameters:
        fields["inference"] = {"parameters": dict(card.parameters)}
    data = ModelCardData(
        base_model=card.base_model,
        datasets=list(card.datasets) or None,
        library_name="diffusers",
        model_name=card.name,
        pipeline_tag="text-to-image",
        tags=["edgekd", *card.tags],
        edgekd={"version": __version__, **card.made},
        **fields,
    )
    write_text(folder / CARD_FILE, f"---\n{data.to_yaml()}\n---\n\n# {card.name}\n\n{card.text}\n")


def add_figures(folder: Path, measured: MeasuredModel) -> None:
    """Put a finished folder's figures into its card, in place of earlier ones.

    The folder's record follows; nothing is written where the card says so already.
    """
    from huggingface_hub import EvalResult, ModelCard

    path = folder / CARD_FILE
    before = path.read_text(encoding="utf-8")
    card: Any = ModelCard(before)
    made = read_header(folder).get("edgekd", {})
    recipe = {"recipe": made["recipe"]} if "recipe" in made else {}
    card.data.eval_results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type=measured.dataset,
            dataset_name=f"{measured.dataset}, {measured.prompts} held-out captions",
            dataset_revision=measured.dataset_key,
            metric_type=figure.metric,
            metric_name=figure.title,
            metric_value=_rounded(figure.value),
            metric_args={"row": figure.row, **recipe},
        )
        for figure in measured.figures
    ]
    card.text = card.text.partition(_MEASURED)[0].rstrip("\n") + "\n" + _table(measured)
    text = str(card)
    if text != before:
        write_text(path, text)
        restamp(folder, CARD_FILE)


def _rounded(value: float) -> float:
    """Counts whole, all else to six digits."""
    return int(value) if value == int(value) else float(f"{value:.6g}")


def _table(measured: MeasuredModel) -> str:
    rows = [
        f"| {figure.title} | {' '.join([str(_rounded(figure.value)), figure.unit]).strip()} |"
        for figure in measured.figures
    ]
    head = f"On {measured.prompts} held-out captions of {measured.dataset}, by `edgekd benchmark`."
    return "\n".join([_MEASURED, head, "", "| metric | value |", "|---|---|", *rows, ""])
