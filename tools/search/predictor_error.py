"""How well latencies are told: the search's own measurements, and then random students whole.

A campaign measures blocks and some whole U-Nets, as every search does first. Then the U-Nets of
students that it has not seen are measured, and compared with what is told of them. Their times are
of one pass, without what a picture's other parts would hide.

    python -m tools.search.predictor_error --target openvino --precision fp16 --seconds 300
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekd.jobs.plan import make_plan, with_sized_teacher
from edgekd.jobs.search_cost import CostMeter, open_meter
from edgekd.jobs.search_plan import SearchPlan, plan_search
from edgekd.jobs.search_shapes import configs_of
from edgekd.progress import Progress, console
from edgekd.recipe import load_recipe
from edgekd.resources import find_yaml
from edgekd.search.campaign import MeasureBudget
from edgekd.search.latency import MeasuredSpace, errors
from edgekd.target import load_target

if TYPE_CHECKING:
    from edgekd.search.candidate import Candidate
    from edgekd.search.space import SearchSpace


@dataclass(frozen=True)
class PredictorError:
    """What was measured, and how far off what was told of other students is.

    Attributes:
        measurements: graphs that the predictor is fitted on; seconds: that they took.
        held_out: whole U-Nets that the errors are of.
        median_error, p90_error: relative; within_10: share that is within 10 percent.
        spearman: correlation of the ranks.
    """

    measurements: int
    seconds: float
    held_out: int
    median_error: float
    p90_error: float
    within_10: float
    spearman: float

    @property
    def line(self) -> str:
        return (
            f"{self.measurements} measured graphs in {self.seconds:.0f} s; "
            f"{self.held_out} held out: off by {self.median_error:.1%} (median), "
            f"{self.p90_error:.1%} (90th percentile), "
            f"{self.within_10:.1%} within 10 %, rank correlation {self.spearman:.3f}"
        )


def predictor_error(
    search: SearchPlan, meter: CostMeter, budget: MeasureBudget, count: int, progress: Progress
) -> PredictorError:
    """Measure within a budget, then `count` students more; of the first precision of a search.

    Raises:
        InputError: nothing can be fitted.
    """
    configs, seed = configs_of(search.plan, search.guided), search.plan.recipe.search.seed
    started = time.monotonic()
    costs = meter.fit(search.space, configs, budget, seed, progress)
    seconds = time.monotonic() - started
    model = next(iter(costs.models.values()))
    others = unseen(search.space, model.measured, count, seed + 1)
    told = np.array([model.unet(one.arch).latency_ms for one in others])
    taken = []
    with progress.track("measure students that were not seen", len(others)) as advance:
        for one in others:
            taken.append(meter.unet(configs, one).latency_ms)
            advance(1)
    return PredictorError(
        measurements=len(model.measured.all),
        seconds=seconds,
        held_out=len(others),
        **errors(told, np.array(taken)),
    )


def unseen(space: SearchSpace, seen: MeasuredSpace, count: int, seed: int) -> list[Candidate]:
    """Random candidates whose U-Nets were not measured and differ; fewer in a small space.

    U-Nets are compared as graphs: which of the teacher's layers a student takes is not in its time.
    """
    rng = np.random.default_rng(seed)
    found: list[Candidate] = []
    full = space.candidate(space.full())
    known = {_key(seen, full.model_copy(update={"arch": arch})) for arch in seen.wholes}
    for _ in range(100 * count):
        one = space.sample(rng)
        key = _key(seen, one)
        if key not in known:
            known.add(key)
            found.append(one)
        if len(found) == count:
            break
    return found


def _key(seen: MeasuredSpace, candidate: Candidate) -> str:
    return seen.configs.unet_graph(candidate).key()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How well the search tells latencies.")
    parser.add_argument("--teacher", default="starter", help="folder of a pipeline")
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--precision", help="of the target; left out: the one that it deploys")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measurements", type=int, default=60, help="at most")
    parser.add_argument("--seconds", type=float, default=300.0, help="for them, at most")
    parser.add_argument("--candidates", type=int, default=30, help="measured whole after that")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    target = load_target(options.target)
    settings = {
        "teacher.path": options.teacher,
        "search.precisions": f"[{options.precision or target.deploy}]",
        "search.threads": options.threads,
        "search.seed": options.seed,
    }
    assignments = [f"{name}={value}" for name, value in settings.items()]
    recipe = load_recipe(find_yaml("configs", "starter"), assignments)
    # A folder of its own: measurements that are there already would take no time.
    with tempfile.TemporaryDirectory() as run:
        search = plan_search(with_sized_teacher(make_plan(recipe, target, Path(run))))
        budget = MeasureBudget(
            options.seconds, recipe.search.whole_unets, options.measurements, search.place.together
        )
        with open_meter(search.place) as meter:
            found = predictor_error(search, meter, budget, options.candidates, console())
    (condition,) = search.place.conditions
    print(f"{condition.runtime} {condition.precision}, {condition.threads} thread(s): {found.line}")


if __name__ == "__main__":
    main()
