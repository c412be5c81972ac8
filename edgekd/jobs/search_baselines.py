"""`edgekd benchmark search-vs-baselines`: is the searched student the best of its latency?

For the latency of each preset, measured, there is the preset itself, the search's student, and what
simpler rules would take: the student with the most MACs, that with the most parameters, and one at
random. All are distilled alike and measured by the benchmark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekd.artifacts import PreparedData, TeacherCache
from edgekd.benchmark.cases import TORCH, Case
from edgekd.benchmark.run import MatrixRequest, benchmark
from edgekd.benchmark.search_suites import BaselinesSuite
from edgekd.errors import GateError
from edgekd.file_record import finish
from edgekd.files import hash_value, write_json
from edgekd.jobs.baseline_figures import SEARCHED, Baselines, Rival
from edgekd.jobs.gates import failed_rows
from edgekd.jobs.phases import train_student
from edgekd.jobs.places import shared_places
from edgekd.jobs.plan import Plan, describe, make_plan, with_sized_teacher, with_student
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.search import picture_costs, teacher_point
from edgekd.jobs.search_cost import open_meter
from edgekd.jobs.search_plan import SEARCH, SearchPlan, plan_search
from edgekd.jobs.search_score import make_proxy, settle_whole, study
from edgekd.measure.environment import environment
from edgekd.progress import Progress
from edgekd.reading import read_json
from edgekd.recipe import Recipe
from edgekd.report.schema import read_report
from edgekd.run_folder import open_run
from edgekd.schema import override, validate
from edgekd.search.candidate import Candidate
from edgekd.target import load_target

if TYPE_CHECKING:
    from edgekd.search.proxy import Proxy

BASELINES_FILE = "baselines.json"
_RANDOM_FROM = 0.9  # of the preset's latency: a random student must not win or lose by speed


@dataclass(frozen=True)
class RuleChoice:
    """One rule's student at one preset's latency.

    Attributes:
        rule: `preset`, `searched`, `macs`, `parameters` or `random`.
        seed: None: the rule gives one student, which is trained with every seed.
        expected: share of the teacher's quality that the search's proxy expects of it.
    """

    preset: str
    rule: str
    candidate: Candidate
    latency_ms: float
    seed: int | None = None
    expected: float = math.nan


def baselines_run(
    suite: BaselinesSuite, recipe: Recipe, run: Path, progress: Progress
) -> tuple[Baselines, Path]:
    """Choose by every rule, distil all alike, and measure what each is worth.

    Returns:
        the figures, and their file.

    Raises:
        InputError: a preset that does not fit the teacher.
        GateError: nothing of the search, or of the pool, is as fast as a preset.
    """
    plan = _planned(suite, recipe, run)
    plan_search(plan)
    with open_run(run):
        plan = with_sized_teacher(plan)
        describe(plan)
        data, cache = prepare_data(plan.recipe, plan.teacher.path, run, progress)
        choices = _choices(suite, plan_search(plan), cache, progress)
        cases, of_case = _trained(suite, plan, cache, choices, progress)
        report = _measured(suite, plan, data, cases, run, progress)
        rows = {row.name: row for row in read_report(report).rows}
        rivals = [
            Rival(
                preset=one.preset,
                rule=one.rule,
                student=one.candidate.key()[:8],
                seed=seed,
                latency_ms=one.latency_ms,
                expected=one.expected,
                score=rows[name].value("score"),
                fd=rows[name].value("fd"),
            )
            for name, pairs in of_case.items()
            for one, seed in pairs
        ]
        failed = failed_rows([*rows.values()])
        measured = environment()
        result = Baselines(suite=suite.name, rivals=rivals, failed=failed, environment=measured)
        folder = run / SEARCH
        write_json(folder / BASELINES_FILE, result.model_dump(mode="json"))
        finish(folder, hash_value(suite.model_dump()), only=(BASELINES_FILE,), suite=suite.name)
    return result, folder / BASELINES_FILE


def _planned(suite: BaselinesSuite, recipe: Recipe, run: Path) -> Plan:
    sets = {
        "search.precisions": [suite.precision],
        "search.threads": suite.threads,
        "search.steps": [suite.steps],
        "search.decoder_widths": [1.0],
        "search.speedup": None,
        "search.latency_ms": None,
        "distill.phases": ["kd", "few_step"],
        "student.preset": None,
        "student.arch": None,
        **suite.set,
    }
    lines = [f"{name}={json.dumps(value)}" for name, value in sets.items()]
    own = validate(Recipe, override(recipe.model_dump(), lines), f"suite `{suite.name}`")
    return make_plan(own, load_target(suite.target), run)


def _choices(
    suite: BaselinesSuite, search: SearchPlan, cache: TeacherCache, progress: Progress
) -> list[RuleChoice]:
    """What every rule takes at every preset's latency, each with its U-Net measured whole."""
    from edgekd.student.resolve import preset

    config = read_json(search.plan.teacher.path / "unet" / "config.json")
    full = search.space.candidate(search.space.full())
    presets = {
        name: full.model_copy(update={"arch": preset(name, config), "steps": suite.steps})
        for name in suite.presets
    }
    with open_meter(search.place) as meter:
        costs = picture_costs(search, meter, progress)
        proxy = make_proxy(search, cache, costs, progress)
        outcome = study(
            search, search.study_key(cache), costs, proxy, search.plan.recipe.search.seconds
        )
        teacher, pool = teacher_point(search, meter), _pool(suite, search)
        latency = {one: costs.predict(one).latency_ms for one in pool}

        def measured(candidate: Candidate) -> float:
            return meter.whole(costs, candidate).latency_ms

        found = []
        for name, candidate in presets.items():
            limit = measured(candidate)
            within = _not_empty([one for one in pool if latency[one] <= limit], name, limit)
            aimed = _within(search, limit)
            chosen = settle_whole(aimed, outcome, teacher, meter, costs).chosen.point
            found.append(RuleChoice(name, "preset", candidate, limit))
            found.append(RuleChoice(name, SEARCHED, chosen.candidate, chosen.cost.latency_ms))
            for rule, worth in _rules(search).items():
                best = max(within, key=worth)
                found.append(RuleChoice(name, rule, best, measured(best)))
            near = [one for one in within if latency[one] >= _RANDOM_FROM * limit]
            near = _not_empty(near, name, limit, _RANDOM_FROM * limit)
            for seed in suite.seeds:
                drawn = near[np.random.default_rng(seed).integers(len(near))]
                found.append(RuleChoice(name, "random", drawn, measured(drawn), seed))
        return [_told(one, proxy) for one in found]


def _not_empty(
    found: list[Candidate], preset: str, most_ms: float, least_ms: float = 0.0
) -> list[Candidate]:
    """What the pool has of a preset's latency.

    Raises:
        GateError: nothing.
    """
    if not found:
        raise GateError(
            f"some student of the pool must draw in {least_ms:.4g} to {most_ms:.4g} ms, as "
            f"`{preset}` does",
            "none",
            "Raise `pool` in the suite.",
        )
    return found


def _within(search: SearchPlan, limit_ms: float) -> SearchPlan:
    """The search with this goal, to the full as the other rules are."""
    section = search.plan.recipe.search.model_copy(update={"latency_ms": limit_ms, "margin": 0.0})
    recipe = search.plan.recipe.model_copy(update={"search": section})
    return replace(search, plan=replace(search.plan, recipe=recipe))


def _told(choice: RuleChoice, proxy: Proxy) -> RuleChoice:
    """With what distillation has to know of the student, the same for every rule's, and what the
    search would expect of it."""
    candidate = choice.candidate
    known = candidate.model_copy(update={"intact": proxy.is_intact(candidate)})
    return replace(choice, candidate=known, expected=proxy.quality(candidate))


def _pool(suite: BaselinesSuite, search: SearchPlan) -> list[Candidate]:
    rng = np.random.default_rng(search.plan.recipe.search.seed)
    return list(dict.fromkeys(search.space.sample(rng) for _ in range(suite.pool)))


def _rules(search: SearchPlan) -> dict[str, Callable[[Candidate], float]]:
    """How much each rule that does not look at the teacher takes a student to be worth."""
    from edgekd.student.cost import unet_cost

    plan = search.plan
    config = read_json(plan.teacher.path / "unet" / "config.json")
    side = plan.recipe.data.side // plan.teacher.vae_scale_factor

    def cost(candidate: Candidate) -> tuple[float, float]:
        found = unet_cost(candidate.arch, config, (side, side), plan.teacher.text_tokens)
        return float(found.macs), float(found.parameters)

    return {"macs": lambda one: cost(one)[0], "parameters": lambda one: cost(one)[1]}


Trained = dict[str, list[tuple[RuleChoice, int]]]


def _trained(
    suite: BaselinesSuite,
    plan: Plan,
    cache: TeacherCache,
    choices: Sequence[RuleChoice],
    progress: Progress,
) -> tuple[list[Case], Trained]:
    """A row for each student that was trained, and whose choices with which seed it stands for."""
    cases: dict[str, Case] = {}
    of_case: Trained = {}
    place = shared_places(plan.run / "students" / "_shared")
    for choice, seed in _pairs(suite, choices):
        name = f"{choice.candidate.key()[:8]} seed {seed}"
        if name not in cases:
            progress.info(f"[{choice.rule} at {choice.preset}, seed {seed}]")
            out = plan.run / "students" / f"{choice.candidate.key()[:16]}-{seed}"
            own = _seeded(with_student(plan, choice.candidate, ""), seed)
            folder = train_student(own, cache, out, progress, place).path
            cases[name] = Case(name, "student", TORCH, "fp32", folder, model=name)
        of_case.setdefault(name, []).append((choice, seed))
    return list(cases.values()), of_case


def _pairs(
    suite: BaselinesSuite, choices: Sequence[RuleChoice]
) -> Iterator[tuple[RuleChoice, int]]:
    for seed in suite.seeds:
        for choice in choices:
            if choice.seed in (None, seed):
                yield choice, seed


def _seeded(plan: Plan, seed: int) -> Plan:
    distill = plan.recipe.distill.model_copy(update={"seed": seed})
    return replace(plan, recipe=plan.recipe.model_copy(update={"distill": distill}))


def _measured(
    suite: BaselinesSuite,
    plan: Plan,
    data: PreparedData,
    cases: Sequence[Case],
    run: Path,
    progress: Progress,
) -> Path:
    quality = plan.suite.quality.model_copy(update={"samples": suite.samples})
    own = plan.suite.model_copy(
        update={"quality": quality, "speed": None, "memory": False, "embeddings": None}
    )
    teacher = Case("teacher", "teacher", TORCH, "fp32", plan.teacher.path, model="teacher")
    rows = (teacher, *cases)
    key = hash_value([own.model_dump(mode="json"), data.key, [one.key() for one in rows]])
    return benchmark(MatrixRequest(own, rows, data, key), run / "report", progress).json_path
