"""What a metric is: one figure of a report, declared in one object.

A metric is a file with a `Metric` and its entry point in the group `edgekd.metrics`. Headline,
columns, cards, ratios, gates, summary lines, plots and `report.json` follow from its descriptor.

Shapes: N pictures; images uint8 [N,H,W,3] or [H,W,3] each; features [N,D]; scores [N].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from edgekd.measure.memory import PeakMemory

Pixels = npt.NDArray[np.uint8]
Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

Direction = Literal["lower", "higher"]
Source = Literal["pictures", "latency", "memory", "energy", "files"]
Place = Literal["column", "card", "summary", "plot"]
Format = Literal["number", "count", "bytes", "milliseconds"]


class Descriptor(BaseModel):
    """All that a report must know of a metric to show it and to hold it against a bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        ..., pattern=r"^[a-z][a-z0-9_]{0,63}$", description="key in figures and gates"
    )
    label: str = Field(..., description="head of its column, line of the summary")
    title: str = Field(..., description="of its card")
    direction: Direction = Field(..., description="which values are better")
    unit: str = Field("", description="of the value as it is stored; empty: none")
    format: Format = Field("number", description="how people read it")
    scale: float = Field(1.0, gt=0, description="values are shown multiplied by this")
    source: Source = Field(..., description="what it is measured on; rows without it have no value")
    places: tuple[Place, ...] = Field(
        ("column", "card", "summary"), description="where it is shown; plots take pictures' only"
    )
    rank: int = Field(1000, description="its place among the others, small ones first")
    per_stored_type: bool = Field(
        False, description="depends on the type of the stored weights: ratios need equal types"
    )
    full_name: str = Field("", description="with extractor and sample counts, where it needs them")
    note: str = Field("", description="how it was measured, for the report")

    def shown(self, place: Place) -> bool:
        return place in self.places

    def with_reference(self, reference: Reference, samples: int) -> Descriptor:
        """The placeholders of `full_name` and `note` filled in."""
        facts = reference.facts(samples)
        texts = {name: getattr(self, name).format(**facts) for name in ("full_name", "note")}
        return self.model_copy(update=texts)


class Figure(BaseModel):
    """One value of a metric.

    Attributes:
        error: standard error or deviation, shown after `±`.
        low, high: 95 % confidence interval, by bootstrap over pictures.
        samples: one value for each picture; rows that draw from the same noise are paired by them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    samples: list[float] | None = None


@dataclass(frozen=True)
class Weights:
    """Files of users that metrics need; None: not given, and such metrics have no value.

    Attributes:
        inception: torch-fidelity's Inception file, `.pth` or `.safetensors` (`--inception`).
        dinov2: folder of a DINOv2 checkpoint of transformers (`--dinov2`).
        clip: folder of a CLIP checkpoint of transformers or open_clip (`--clip`).
    """

    inception: Path | None = None
    dinov2: Path | None = None
    clip: Path | None = None


class PictureExtractor(Protocol):
    """A network that turns pictures, and captions where it reads them, into rows of numbers.

    Attributes:
        name: with its resize and the hash of its weights: part of the metrics' names.
        key: hash of everything that its results depend on.
    """

    name: str
    key: str

    def __call__(self, images: Images, captions: Sequence[str]) -> Floats:
        """Rows [N,D] of uint8 images [N,H,W,3]; each depends on its own picture alone."""


@dataclass(frozen=True)
class Extraction:
    """What a metric reads of every picture, done once for all metrics that share it.

    Attributes:
        name: key in `Pictures.extracted`.
        open: the network, or None where its weights were not given.
    """

    name: str
    open: Callable[[Weights], PictureExtractor | None]


# Rows of the shipped scorer in `Pictures.extracted`: image and caption embedding side by side.
SCORER = "scorer"


# Equal only to itself: what is costly to compute of it is kept by `functools.lru_cache`.
@dataclass(frozen=True, eq=False)
class Pictures:
    """A row's pictures, and what the extractors make of them.

    Attributes:
        images: uint8 [H,W,3] each; read from disk as they are asked for, so iterate once, in order.
        features, scores: of the shipped networks.
        extracted: rows by the name of the `Extraction`; `SCORER`: those of the shipped scorer.
    """

    images: Sequence[Pixels]
    captions: tuple[str, ...]
    features: Floats
    scores: Floats
    extracted: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Reference:
    """What pictures are held against.

    Attributes:
        features: of real images that are not prompts.
        extractor, scorer: names, part of the metrics' names.
        subsets, subset_size, seed: of distances that are averaged over random subsets.
        extracted: of the same real images, by the name of the `Extraction`.
        extractors: full names by the name of the `Extraction`.
    """

    features: Floats
    extractor: str
    scorer: str
    subsets: int
    subset_size: int
    seed: int
    extracted: Mapping[str, Floats] = field(default_factory=dict)
    extractors: Mapping[str, str] = field(default_factory=dict)

    def fitting_subset(self, samples: int) -> int:
        return min(self.subset_size, samples, len(self.features))

    def facts(self, samples: int) -> dict[str, Any]:
        """Values of the placeholders in full names and notes."""
        return {
            "extractor": self.extractor,
            "scorer": self.scorer,
            "samples": samples,
            "reference": len(self.features),
            "subsets": self.subsets,
            "subset_size": self.fitting_subset(samples),
            **self.extractors,
        }


@dataclass(frozen=True)
class Measurements:
    """What was measured of one row; None: was not asked for, or cannot be had here.

    Attributes:
        latency_ms: every whole picture that was timed.
        contended: other work held the core of the one thread that was timed: wall-clock says
            nothing of the row.
        cold_start_ms: of each fresh process, from its start to its first picture.
        cpu_ms: processor time of every whole picture that was timed.
        joules: of every picture whose energy a counter told.
    """

    reference: Reference
    pictures: Pictures | None = None
    latency_ms: tuple[float, ...] | None = None
    cold_start_ms: tuple[float, ...] | None = None
    cpu_ms: tuple[float, ...] | None = None
    joules: tuple[float, ...] | None = None
    contended: bool = False
    memory: PeakMemory | None = None
    parameters: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Metric:
    """A descriptor, and how the value comes from what was measured; None: there is no value.

    Attributes:
        extraction: what it needs besides the shipped networks' features and scores.
    """

    descriptor: Descriptor
    measure: Callable[[Measurements], Figure | None]
    extraction: Extraction | None = None


def of_pictures(measure: Callable[[Pictures, Reference], Figure]) -> Callable[..., Figure | None]:
    """The `measure` of a metric whose source is pictures."""

    def measured(found: Measurements) -> Figure | None:
        return None if found.pictures is None else measure(found.pictures, found.reference)

    return measured


def of_extraction(
    extraction: Extraction, measure: Callable[[Pictures, Reference], Figure]
) -> Callable[..., Figure | None]:
    """As `of_pictures`; without the extraction's rows there is no value."""

    def measured(found: Measurements) -> Figure | None:
        if found.pictures is None or extraction.name not in found.pictures.extracted:
            return None
        return measure(found.pictures, found.reference)

    return measured


def plain(value: float | None) -> Figure | None:
    """A figure without error, where there is a value."""
    return None if value is None else Figure(value=value)
