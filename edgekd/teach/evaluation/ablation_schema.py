"""What an ablation of a teacher's recipe measured: the form of `ablation.json`."""

from __future__ import annotations

from edgekd.report.schema import Environment
from edgekd.schema import Section
from edgekd.teach.evaluation.ablation_suite import TeachAblation
from edgekd.teach.evaluation.schema import SetFigures, Settings
from edgekd.teach.recipe import TeachRecipe


class AblationRow(Section):
    """One variant.

    Attributes:
        validation_loss: None where there are no such images, as below.
        label_gain: by timestep.
    """

    name: str
    description: str
    images: int
    steps: int
    hours: float
    validation_loss: float | None = None
    validation_group_loss: float | None = None
    label_gain: dict[str, float]
    known: SetFigures
    new_style: SetFigures


class AblationResult(Section):
    """`ablation.json`; `base` is written without its `evaluate`, which `settings` has."""

    suite: TeachAblation
    settings: Settings
    base: TeachRecipe
    rows: list[AblationRow]
    environment: Environment
