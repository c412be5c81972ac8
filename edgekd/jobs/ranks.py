"""Several processes of one launch: the first does the whole job, the others help it to train.

They meet in the store that the launcher (`accelerate launch`, `torchrun`) keeps for them, where
the first leaves what is to be trained. A collective operation would time out while it prepares.
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekd.artifacts import TeacherCache
from edgekd.jobs.plan import Plan
from edgekd.progress import Silent
from edgekd.recipe import Recipe
from edgekd.resources import find_yaml
from edgekd.target import Target
from edgekd.training.sharding import launched

_KEY = "edgekd/work"
# Preparing millions of images takes days.
_PATIENCE = datetime.timedelta(days=30)


def share(plan: Plan, cache: TeacherCache, out: Path) -> None:
    """Let the launch's other processes, if there are any, train along."""
    if launched() > 1:
        work = {
            "recipe": plan.recipe.model_dump(),
            "target": plan.target.model_dump(),
            "teacher": plan.teacher.path,
            "arch": plan.arch.model_dump(),
            "run": plan.run,
            "phases": plan.phases,
            "cache": asdict(cache),
            "out": out,
        }
        _store().set(_KEY, json.dumps(work, default=str))


def follow() -> None:
    """Train along with the first process, which writes."""
    from edgekd.benchmark.suite import load_suite
    from edgekd.diffusion.validate import inspect_teacher
    from edgekd.jobs.phases import train_phases
    from edgekd.jobs.places import own_places
    from edgekd.student.arch import StudentArch

    work = json.loads(_store().get(_KEY))
    found = work["cache"]
    cache = TeacherCache(Path(found["root"]), found["key"], found["teacher_key"])
    recipe = Recipe.model_validate(work["recipe"])
    plan = Plan(
        recipe,
        Target.model_validate(work["target"]),
        load_suite(find_yaml("benchmarks", recipe.benchmark.suite)),
        inspect_teacher(Path(work["teacher"])),
        StudentArch.model_validate(work["arch"]),
        Path(work["run"]),
        tuple(work["phases"]),
    )
    train_phases(plan, cache, own_places(Path(work["out"])), Silent())


def _store() -> Any:
    import torch.distributed

    launcher: Any = torch.distributed  # which types do not name the store
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return launcher.TCPStore(address, port, is_master=False, timeout=_PATIENCE)
