"""`edgekd benchmark search-transfer`: does each device need a student of its own?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgekd.benchmark.search_suites import TransferSetting, TransferSuite
from edgekd.file_record import finish
from edgekd.files import hash_value, write_json
from edgekd.jobs.plan import describe, make_plan, with_sized_teacher
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.search import find_student, picture_costs
from edgekd.jobs.search_cost import open_meter
from edgekd.jobs.search_plan import SEARCH, SearchPlan, plan_search
from edgekd.measure.environment import environment
from edgekd.progress import Progress
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.schema import Section, override, validate
from edgekd.search.result import FrontEntry, SearchResult
from edgekd.target import load_target

TRANSFER_FILE = "transfer.json"


class TransferCell(Section):
    """A student of one setting, drawn in another.

    Attributes:
        ratio: its latency over that of the student that was searched for this setting.
    """

    on: str
    student_of: str
    latency_ms: float
    ratio: float
    quality: float


class Transfer(Section):
    """All of `transfer.json`."""

    suite: str
    speedup: float
    students: dict[str, FrontEntry]
    reasons: dict[str, str]
    cells: list[TransferCell]
    environment: dict[str, object]


def transfer_run(
    suite: TransferSuite, recipe: Recipe, run: Path, progress: Progress
) -> tuple[Transfer, Path]:
    """Search a student for each setting, and measure it in all.

    Returns:
        what was found, and its file.

    Raises:
        GateError: no student of a setting is so fast.
    """
    names = [setting.name for setting in suite.settings]
    plans = {one.name: _planned(suite, one, recipe, run) for one in suite.settings}
    with open_run(run):
        first = plans[names[0]].plan
        plan = with_sized_teacher(first)
        describe(plan)
        _, cache = prepare_data(plan.recipe, plan.teacher.path, run, progress)
        found: dict[str, SearchResult] = {}
        searches: dict[str, SearchPlan] = {}
        for number, name in enumerate(names):
            progress.info(f"[{name}]")
            search = plan_search(replace(plans[name].plan, teacher=plan.teacher))
            searches[name] = replace(search, folder=run / SEARCH / f"setting-{number}")
            found[name] = find_student(searches[name], cache, progress)
        cells = [
            cell for name in names for cell in _cells(name, searches[name], suite, found, progress)
        ]
        result = Transfer(
            suite=suite.name,
            speedup=suite.speedup,
            students={name: one.student for name, one in found.items()},
            reasons={name: one.chosen.reason for name, one in found.items()},
            cells=cells,
            environment=environment(),
        )
        folder = run / SEARCH
        write_json(folder / TRANSFER_FILE, result.model_dump(mode="json"))
        finish(folder, hash_value(suite.model_dump()), only=(TRANSFER_FILE,), suite=suite.name)
    return result, folder / TRANSFER_FILE


def _planned(
    suite: TransferSuite, setting: TransferSetting, recipe: Recipe, run: Path
) -> SearchPlan:
    """The search of one setting, checked."""
    sets = {
        "search.precisions": [setting.precision],
        "search.threads": setting.threads,
        "search.speedup": suite.speedup,
        "search.latency_ms": None,
    }
    values = override(
        recipe.model_dump(), [f"{name}={json.dumps(value)}" for name, value in sets.items()]
    )
    own = validate(Recipe, values, f"setting `{setting.name}`")
    return plan_search(make_plan(own, load_target(setting.target), run))


def _cells(
    on: str,
    search: SearchPlan,
    suite: TransferSuite,
    found: dict[str, SearchResult],
    progress: Progress,
) -> list[TransferCell]:
    """All students in one setting, measured whole."""
    (precision,) = search.place.runtimes
    with open_meter(search.place) as meter:
        costs = picture_costs(search, meter, progress)
        latencies = {
            setting.name: meter.whole(
                costs,
                found[setting.name].student.candidate.model_copy(update={"precision": precision}),
            ).latency_ms
            for setting in suite.settings
        }
    return [
        TransferCell(
            on=on,
            student_of=name,
            latency_ms=latency,
            ratio=latency / latencies[on],
            quality=found[name].student.quality,
        )
        for name, latency in latencies.items()
    ]


def transfer_lines(found: Transfer) -> list[str]:
    """The matrix: a row for each setting's student, a column for each setting."""
    names = list(found.students)
    width = max(len(name) for name in names)
    cells = {(one.student_of, one.on): one for one in found.cells}
    lines = [
        f"{'student of':<{width}}  quality  " + "  ".join(f"{name:>{width}}" for name in names)
    ]
    for name in names:
        row = [cells[name, on] for on in names]
        shown = (f"{one.latency_ms:.4g} ms ({one.ratio:.2f})" for one in row)
        lines.append(
            f"{name:<{width}}  {row[0].quality:7.3f}  "
            + "  ".join(f"{text:>{width}}" for text in shown)
        )
    return [*lines, *(f"{name}: {reason}" for name, reason in found.reasons.items())]
