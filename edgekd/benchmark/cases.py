"""The rows of a benchmark: one pipeline folder in one runtime and precision each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from edgekd.benchmark.generation import MANIFEST, row_generation, tuned_options
from edgekd.benchmark.suite import GenerationSection
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import hash_tree, hash_value
from edgekd.model_card import CARD_FILE
from edgekd.recipe import RowGeneration

Role = Literal["teacher", "student"]
TORCH = "torch"


@dataclass(frozen=True)
class Case:
    """One pipeline to measure.

    Attributes:
        name: shown in the report; unique in a benchmark.
        role: `teacher` or `student`.
        runtime: `torch`, or the name of an exporter.
        precision: as the exporter names it; `fp32` for torch.
        path: diffusers folder (torch) or exported folder.
        source: the diffusers folder an export was made from: parameters are counted there.
        not_executed: why this machine cannot run it; such a row has sizes, no measurements.
        evaluated: why this machine draws its pictures by evaluating the export instead of running
            it; such a row has quality, but neither times nor memory.
        failed: why it could not be made; there is no folder then.
        model: name of the folder that it was made from; empty: the case's own.
        target: whose precision and options it was exported with; None: torch, or not known.
        generation: None: as `edgekd.benchmark.generation` finds it.
    """

    name: str
    role: Role
    runtime: str
    precision: str
    path: Path
    source: Path | None = None
    not_executed: str = ""
    evaluated: str = ""
    failed: str = ""
    model: str = ""
    target: str | None = None
    generation: RowGeneration | None = None

    @property
    def runs_here(self) -> bool:
        return not self.not_executed and not self.failed

    @property
    def weights(self) -> Path | None:
        return self.path if self.runtime == TORCH else self.source

    def key(self) -> str:
        """Hash of everything that decides what this case draws, and how fast; of a card its
        generation alone, of a manifest what the runtime was tuned to, too."""
        content = hash_tree(self.path, exclude=(ARTIFACT_FILE, CARD_FILE, MANIFEST))
        generation = None if self.generation is None else asdict(self.generation)
        chosen = tuned_options(self.path)
        return hash_value([self.runtime, self.precision, content, generation, chosen])

    def with_generation(self, suite: GenerationSection) -> Case:
        """This case, with a generation wherever it has a folder."""
        if self.failed:
            return self
        return replace(self, generation=self.generation or row_generation(self.path, suite))


def check_cases(cases: list[Case]) -> None:
    """Refuse a matrix that could not be read.

    Raises:
        InputError: a name twice, no teacher, a missing folder.
    """
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("names of a benchmark's rows must differ", f"{twice[0]!r} twice")
    if not any(case.role == "teacher" and case.runs_here for case in cases):
        raise InputError(
            "a benchmark must have a teacher row that runs here", ", ".join(names) or "no rows"
        )
    for case in cases:
        if not case.failed and not (case.path / "model_index.json").is_file():
            raise InputError(
                f"row `{case.name}` must be a pipeline folder",
                f"{case.path} (no model_index.json)",
            )
