"""Features side by side: numbers beside each projection, CKA as heat maps, attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.report.features_schema import (
    AttentionMap,
    Embeddings,
    Likeness,
    Nearness,
)
from edgekd.report.pictures import data_uri
from edgekd.report.schema import Report
from edgekd.report.table import Cell, Table

_NEARNESS = ["linear CKA (by chance)", "shared neighbours", "Procrustes distance"]
_FIGURES = tuple(Likeness.model_fields)


@dataclass(frozen=True)
class Attention:
    """Two maps of one word, as data URIs."""

    title: str
    teacher: str
    student: str


@dataclass(frozen=True)
class Inner:
    """A student's inner features against its teacher's."""

    found: Embeddings
    blocks: Table | None
    steps: Table | None
    cross: Table | None
    attention: list[Attention]


def nearness_table(report: Report) -> Table | None:
    """How near each row's picture features are to the teacher's, in all dimensions."""
    if not report.nearness:
        return None
    rows = [[Cell(name), *_nearness_cells(one)] for name, one in report.nearness.items()]
    caption = "Picture features against the teacher's, in all dimensions"
    return Table(["row", *_NEARNESS], rows, [""] * len(rows), caption)


def _nearness_cells(one: Nearness) -> list[Cell]:
    """Each figure, with what shuffled inputs give in brackets."""
    pairs = [(getattr(one, name), one.chance and getattr(one.chance, name)) for name in _FIGURES]
    return [
        Cell(f"{value:.3f}" if chance is None else f"{value:.3f} ({chance:.3f})", value)
        for value, chance in pairs
    ]


def inner_features(report: Report) -> list[Inner]:
    """A part of the page for each student that was compared from within."""
    return [
        Inner(
            found=one,
            blocks=_block_table(one),
            steps=_step_table(one),
            cross=_cross_table(one),
            attention=[_attention(each) for each in one.attention],
        )
        for one in report.embeddings
    ]


def _step_table(found: Embeddings) -> Table | None:
    """Linear CKA, block by timestep."""
    values = {(one.block, one.timestep): one.cka for one in found.agreement}
    if not values:
        return None
    blocks = list(dict.fromkeys(block for block, _ in values))
    steps = sorted({step for _, step in values}, reverse=True)
    head = ["block", *(f"t={step}" for step in steps)]
    caption = f"Linear CKA of {found.student} with {found.teacher}, block by timestep"
    return _heat_table(head, blocks, [[values.get((b, s)) for s in steps] for b in blocks], caption)


def _cross_table(found: Embeddings) -> Table | None:
    """Linear CKA of each of the teacher's blocks with each of the student's."""
    if not found.cross:
        return None
    head = ["teacher's block", *found.student_blocks]
    caption = (
        f"Linear CKA of each block of {found.teacher} (rows) with each of {found.student} "
        "(columns), middle timestep"
    )
    return _heat_table(head, found.teacher_blocks, found.cross, caption)


def _heat_table(
    head: list[str], names: Sequence[str], values: Sequence[Sequence[float | None]], caption: str
) -> Table:
    rows = [[Cell(name), *map(_heat_cell, line)] for name, line in zip(names, values, strict=True)]
    return Table(head, rows, [""] * len(rows), caption)


def _heat_cell(value: float | None) -> Cell:
    if value is None:
        return Cell()
    return Cell(f"{value:.2f}", value, heat=min(max(value, 0.0), 1.0))


def _block_table(found: Embeddings) -> Table | None:
    """Means over timesteps of each block: the numbers beside the projections."""
    by_block: dict[str, list[Nearness]] = {one.block: [] for one in found.agreement}
    for one in found.agreement:
        by_block[one.block].append(one)
    if not by_block:
        return None
    rows = [[Cell(block), *_nearness_cells(_mean(each))] for block, each in by_block.items()]
    caption = (
        f"Inner features of {found.student} against {found.teacher}, mean over timesteps "
        f"({found.samples} inputs each, {found.neighbours} neighbours)"
    )
    return Table(["block", *_NEARNESS], rows, [""] * len(rows), caption)


def _mean(each: Sequence[Nearness]) -> Nearness:
    chances = [one.chance for one in each if one.chance is not None]
    return Nearness(**_means(each), chance=Likeness(**_means(chances)) if chances else None)


def _means(each: Sequence[Likeness]) -> dict[str, float]:
    return {name: sum(getattr(one, name) for one in each) / len(each) for name in _FIGURES}


def _attention(one: AttentionMap) -> Attention:
    title = f"“{one.word}” in “{one.caption}”, {one.block}, t={one.timestep}"
    return Attention(title, _map_uri(one.teacher), _map_uri(one.student))


def _map_uri(values: Sequence[Sequence[float]]) -> str:
    """A map [h,w] in [0,1] as a picture, dark to bright evenly in lightness (viridis)."""
    import matplotlib

    colors: Any = matplotlib.colormaps["viridis"](np.asarray(values, float))
    return data_uri(np.round(255 * colors[..., :3]).astype(np.uint8))
