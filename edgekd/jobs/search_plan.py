"""What a search is asked for, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import TeacherCache
from edgekd.errors import InputError
from edgekd.files import code_key, hash_value
from edgekd.jobs.plan import Plan, deployed_as
from edgekd.reading import read_json
from edgekd.recipe_distill import PhaseName
from edgekd.recipe_search import Goal
from edgekd.training.sharding import launched

if TYPE_CHECKING:
    from edgekd.jobs.search_cost import TimingPlace
    from edgekd.search.space import SearchSpace
    from edgekd.search.tables import QualityTables

SEARCH = "search"
# Of `search`, what decides how much is tried and which student is chosen, not what one is worth.
# Tables count by what they say.
_NO_SCORE = {
    *Goal.model_fields, "candidates", "finalists", "quality_tables", "sampler", "seconds",
    "short_steps", "storage", "trials", "whole_unets",
}  # fmt: skip


@dataclass(frozen=True)
class SearchPlan:
    """A search that has passed every check that needs no computation.

    Attributes:
        guided: each step of a student calls its U-Net with and without the text, as its
            teacher's; few-step students do not, unless the recipe keeps their guidance.
        tables: the expected quality of steps, decoders and precisions.
        folder: of the result.
    """

    plan: Plan
    space: SearchSpace
    place: TimingPlace
    guided: bool
    tables: QualityTables
    folder: Path

    def key(self, cache: TeacherCache) -> str:
        """Hash of all that the result follows from but the machine's noise."""
        plan, section = self.plan, self.plan.recipe.search
        return hash_value(
            [
                self._scored_by(cache),
                section.model_dump(exclude={"storage", "quality_tables"}),
                [plan.suite.generation.model_dump(), plan.recipe.distill.model_dump()],
            ]
        )

    def study_key(self, cache: TeacherCache) -> str:
        """Hash of what a trial's figures mean: whoever shares it may go on with the same study,
        for longer or with another goal."""
        from edgekd.jobs.search_shapes import configs_of

        return hash_value(
            [
                self._scored_by(cache),
                self.plan.recipe.search.model_dump(exclude=_NO_SCORE),
                configs_of(self.plan, self.guided).model_dump(),
            ]
        )

    def _scored_by(self, cache: TeacherCache) -> list[Any]:
        plan = self.plan
        return [
            [code_key(), plan.teacher.key, cache.key, plan.target.model_dump()],
            self.tables.model_dump(),
            [one.model_dump() for one in self.place.conditions],
        ]


def _check_short(steps: int, phases: Sequence[PhaseName]) -> None:
    """Raises InputError: finalists could not be distilled for a while."""
    if launched() > 1:
        raise InputError(
            "`search.short_steps` must be 0 in a launch of several processes",
            f"{steps} in {launched()}",
            "Search with one process first, and pass what it chose: `--student "
            "RUN/search/front/<n>.json`.",
        )
    if not {"kd", "few_step"} & set(phases):
        raise InputError(
            "`search.short_steps` must come with a phase `kd` or `few_step`", f"{list(phases)}"
        )


def plan_search(plan: Plan, measure_only: bool = False) -> SearchPlan:
    """Check what a recipe asks of a search against its teacher and target.

    Args:
        measure_only: nothing is scored: what the quality tables do not cover may be measured.

    Raises:
        InputError: a share, step, precision, decoder or storage that cannot be, quality tables that
            are none, or a choice that they do not cover.
    """
    from edgekd.jobs.search_cost import place_of
    from edgekd.search.candidate import check_decoder_kind
    from edgekd.search.dimensions import SpaceSettings
    from edgekd.search.space import SearchSpace
    from edgekd.search.storage import check_storage
    from edgekd.search.tables import STARTER_QUALITY, read_tables

    section, target = plan.recipe.search, plan.target
    check_decoder_kind(plan.recipe.distill)
    precisions = tuple(section.precisions) or (target.deploy,)
    for precision in precisions:
        deployed_as(target, precision)
        if precision not in plan.precisions:
            raise InputError(
                "`search.precisions` must be among those that are exported "
                f"({', '.join(plan.precisions)})",
                repr(precision),
            )
    phases = plan.recipe.distill.phases
    if section.short_steps and not measure_only:
        _check_short(section.short_steps, phases)
    few, narrow = "few_step" in phases, "decoder" in phases and not plan.teacher.tiny_vae
    settings = SpaceSettings(
        unet=read_json(plan.teacher.path / "unet" / "config.json"),
        vae=read_json(plan.teacher.path / "vae" / "config.json"),
        steps=tuple(section.steps) if few else (plan.suite.generation.steps,),
        precisions=precisions,
        width_shares=tuple(section.widths),
        decoder_widths=tuple(section.decoder_widths) if narrow else (1.0,),
    )
    space = SearchSpace(settings)
    tables = read_tables(Path(section.quality_tables or STARTER_QUALITY)).offering(precisions)
    if not measure_only:
        _check_covered(tables, space, "search.steps" if few else "generation.steps")
    if section.storage is not None:
        check_storage(section.storage)
    place = place_of(plan, precisions, plan.run / SEARCH / "measurements")
    kept = plan.recipe.distill.kept_guidance > 1
    guided = kept if few else plan.suite.generation.guided
    return SearchPlan(plan, space, place, guided, tables, plan.run / SEARCH)


def _check_covered(tables: QualityTables, space: SearchSpace, steps_field: str) -> None:
    """Every choice must have an expected quality, before anything is measured.

    Raises:
        InputError: names the field and what the tables cover.
    """
    choices: Any = space.dimensions
    for steps in choices["steps"]:
        tables.of_steps(steps, steps_field)
    for width in choices["decoder_width"]:
        tables.of_decoder(width)
    for precision in choices["precision"]:
        tables.of_precision(precision)
