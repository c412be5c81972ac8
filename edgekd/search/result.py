"""What a search found, as `edgekd search --json` prints it and as its folder keeps it.

`search.json` holds all of it; `front/<n>.json` a candidate each, which `edgekd distill --student`
takes; `front.svg` the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, model_validator

from edgekd.files import write_json, write_text
from edgekd.folders import atomic_folder
from edgekd.reading import read_object
from edgekd.schema import Section, validate
from edgekd.search.candidate import Candidate, FrontPoint, Scored
from edgekd.search.choice import Settled, TeacherPoint
from edgekd.search.describe import describe
from edgekd.search.latency import PredictorReport
from edgekd.search.plot import FrontPoints, draw_front

RESULT_FILE: Final = "search.json"
FRONT_FOLDER: Final = "front"
PLOT_FILE: Final = "front.svg"


class SearchedOn(Section):
    """Where the latencies are from."""

    runtime: str
    precision: tuple[str, ...] = Field(..., description="of the candidates")
    threads: int | None = Field(None, description="None: the runtime's own choice")
    device: str = Field(..., description="its processor")
    device_class: str | None = Field(None, description="null: this machine")
    devices: tuple[str, ...] = Field((), description="that shared the work")
    stand_in_for: str | None = Field(
        None, description="the target's runtime, where this one stands in for it"
    )

    @property
    def sentence(self) -> str:
        """What every figure of the search must say of itself."""
        if self.device_class is not None:
            return f"searched on {self.runtime} of {self.device_class}"
        if self.stand_in_for is None:
            return f"searched on {self.runtime}"
        return f"searched on {self.runtime}, not on {self.stand_in_for}"


class FrontEntry(Candidate):
    """A student of the front with its figures."""

    latency_ms: float = Field(..., gt=0, description="of a whole picture")
    measured: bool = Field(..., description="on the whole graphs; else predicted")
    quality: float = Field(..., ge=0, description="expected share of the teacher's")
    bytes: int = Field(..., ge=0, description="of the exported parts")
    peak_bytes: int = Field(..., ge=0)
    speedup: float = Field(..., gt=0, description="over the teacher's picture")
    label: str = Field(..., description="what the student is, in words")
    file: str = Field(..., description="its candidate, for `edgekd distill --student`")

    @property
    def candidate(self) -> Candidate:
        """The student alone."""
        return Candidate(**{name: getattr(self, name) for name in Candidate.model_fields})


class ChosenEntry(Section):
    index: int = Field(..., ge=0, description="in `front`")
    reason: str


class TeacherFigures(Section):
    """The teacher on the same target."""

    latency_ms: float = Field(..., gt=0)
    bytes: int = Field(..., ge=0)


class SearchFacts(Section):
    """What is known of a search besides its front."""

    predictor: PredictorReport = Field(
        ..., description="of the precision where it is worst, with the warnings of all"
    )
    searched_on: SearchedOn
    candidates_per_second: float = Field(..., ge=0, description="while it scored")
    candidates: int = Field(..., ge=0, description="scored by this call")
    trials: int = Field(..., ge=0, description="in the study")
    study: str
    storage: str = Field(..., description="without secrets")
    sizes: Literal["measured", "computed"] = Field(
        "measured",
        description="all `bytes`: of files, or from the bits of a weight on the target, where "
        "another runtime stands in for it",
    )
    notes: tuple[str, ...] = ()


class SearchResult(SearchFacts):
    """All of `search.json`."""

    teacher: TeacherFigures
    front: tuple[FrontEntry, ...] = Field(..., min_length=1, description="fastest first")
    chosen: ChosenEntry

    @model_validator(mode="after")
    def _chosen_is_there(self) -> SearchResult:
        if self.chosen.index >= len(self.front):
            raise ValueError(
                f"`chosen.index` must be below {len(self.front)}, but got {self.chosen.index}"
            )
        return self

    @property
    def student(self) -> FrontEntry:
        """The chosen one."""
        return self.front[self.chosen.index]

    def on_card(self, index: int) -> str:
        """What the card of a student of the front says of the search that it is from."""
        why = self.chosen.reason if index == self.chosen.index else self.front[index].label
        return f"Found by a search, {self.searched_on.sentence}: {why}."


def make_result(facts: SearchFacts, settled: Settled, teacher: TeacherPoint) -> SearchResult:
    """A result from what a search settled on, against the same teacher."""
    index = settled.front.index(settled.chosen.point)
    return SearchResult(
        **dict(facts),
        teacher=TeacherFigures(latency_ms=teacher.latency_ms, bytes=teacher.size_bytes),
        front=tuple(_entry(number, one, teacher) for number, one in enumerate(settled.front)),
        chosen=ChosenEntry(index=index, reason=settled.chosen.reason),
    )


def _entry(number: int, one: Scored, teacher: TeacherPoint) -> FrontEntry:
    candidate, cost = one.candidate, one.cost
    return FrontEntry(
        **dict(candidate),
        latency_ms=cost.latency_ms,
        measured=one.measured,
        quality=one.quality,
        bytes=cost.size_bytes,
        peak_bytes=cost.peak_bytes,
        speedup=teacher.latency_ms / cost.latency_ms,
        label=describe(candidate, teacher.unet_config),
        file=f"{FRONT_FOLDER}/{number}.json",
    )


def front_points(result: SearchResult) -> FrontPoints:
    """What the picture shows."""
    return FrontPoints(
        latencies=[one.latency_ms for one in result.front],
        qualities=[one.quality for one in result.front],
        measured=[one.measured for one in result.front],
        chosen=result.chosen.index,
        label=result.student.label,
        teacher_ms=result.teacher.latency_ms,
        searched_on=result.searched_on.sentence,
    )


def write_result(folder: Path, result: SearchResult) -> None:
    """Write all files of a result, each whole or not at all, `search.json` last."""
    with atomic_folder(folder / FRONT_FOLDER) as place:
        for index, one in enumerate(result.front):
            point = FrontPoint(**dict(one.candidate), found=result.on_card(index))
            write_json(place / Path(one.file).name, point.model_dump(mode="json"))
    write_text(folder / PLOT_FILE, draw_front(front_points(result)))
    write_json(folder / RESULT_FILE, result.model_dump(mode="json"))


def read_result(folder: Path) -> SearchResult:
    """The result in a folder.

    Raises:
        InputError: the file is missing, or is none of a search.
    """
    path = folder / RESULT_FILE
    return validate(SearchResult, read_object(path), f"`{path}`")
