"""`edgekd search`, and the same as a stage of `edgekd distill`: the student for a device.

The search knows neither exporters nor training: what it needs of them is handed to it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.artifacts import TeacherCache
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.folders import finished
from edgekd.jobs.matrix import not_executed_here
from edgekd.jobs.plan import Plan, describe, make_plan, with_sized_teacher
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.schema import validate
from edgekd.target import Target

if TYPE_CHECKING:
    from edgekd.search.candidate import Candidate
    from edgekd.search.result import SearchResult

SEARCH = "search"
# A runtime that is everywhere, for targets whose own does not exist here.
STAND_IN = ("onnx", "fp32")


def search_run(recipe: Recipe, target: Target, run: Path, progress: Progress) -> SearchResult:
    """`edgekd search`: prepare data, and find the student for a target.

    Raises:
        InputError: whatever does not fit, before anything is computed.
        GateError: no student meets the goal.
    """
    from edgekd.diffusion.health import check_parts
    from edgekd.jobs.prepare import prepare_data

    plan = make_plan(recipe, target, run)
    check_parts(plan.teacher)
    with open_run(run):
        plan = with_sized_teacher(plan)
        describe(plan)
        _, cache = prepare_data(plan.recipe, plan.teacher.path, run, progress)
        return find_student(plan, cache, progress)
