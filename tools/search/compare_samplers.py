"""Ways to search compared, on a synthetic score over dimensions like those of the starter.

Each choice of a layout dimension adds to a pass's latency, to the size and to the logarithm of the
quality that is lost; steps and precision multiply the latency. So the exact front is known (a
knapsack for every decoder, precision and number of steps). A way's figure is its share of that
front's hypervolume in log latency, quality and log size, after as many candidates, or after as
much time of the processor.

    python -m tools.search.compare_samplers --seconds 30 --seeds 3 tpe nsga2 sweep study
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekd.search.candidate import Candidate, Cost, Scored
from edgekd.search.front import hypervolume, loss_values, non_dominated
from edgekd.search.samplers import SAMPLERS, make_sampler
from edgekd.search.scoring import Memo, Scoring, Setting
from edgekd.search.storage import sqlite_url
from edgekd.search.study import StudyBudget, run_study
from edgekd.search.sweep import Sweep
from edgekd.search.trials import DIRECTIONS, StudyPlan, quiet, values_of
from edgekd.student.arch import StageArch, StudentArch
from tools.search.knapsack import exact_front

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Layout dimensions of the starter's space, and how many choices each has.
LAYOUT = {
    "removed_stages": 2, "stages.0.pairs": 4, "stages.0.attention": 4, "stages.1.pairs": 2,
    "stages.1.width": 3, "stages.1.attention": 4, "stages.2.pairs": 2, "stages.2.width": 3,
    "mid": 2,
}  # fmt: skip
STEPS, PRECISIONS = (10, 8, 6, 4, 3, 2, 1), (1.0, 0.55)
SIZES = {**LAYOUT, "decoder": 3, "precision": len(PRECISIONS), "steps": len(STEPS)}
DIMENSIONS = {name: tuple(range(count)) for name, count in SIZES.items()}
FULL: Setting = dict.fromkeys(DIMENSIONS, 0)
CHEAPEST: Setting = {name: count - 1 for name, count in SIZES.items()}
TRIALS = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
SECONDS = (1, 3, 10, 30, 100)
_ARCH = StudentArch(stages=(StageArch(width=32),))


@dataclass(frozen=True)
class Model:
    """Per dimension [choices, 3]: latency, logarithm of the lost quality, size."""

    layout: tuple[Floats, ...]
    decoder: Floats

    @classmethod
    def draw(cls, seed: int) -> Model:
        random = np.random.default_rng(seed)
        tables = [_table(random, count) for count in (*LAYOUT.values(), SIZES["decoder"])]
        return cls(tuple(tables[:-1]), tables[-1])

    def losses(self, layout: Floats, decoder: int, precision: int, steps: int) -> Floats:
        """[..., 3] log latency, -quality, log size from sums over the layout dimensions."""
        part, count = self.decoder[decoder], STEPS[steps]
        latency = PRECISIONS[precision] * (count * layout[..., 0] + part[0]) + 0.5
        lost = layout[..., 1] + part[1] + 0.2 / count + 0.02 * precision
        size = (layout[..., 2] + part[2] + 1) * (0.4 if precision else 1.0)
        return np.stack([np.log(latency), -np.exp(-lost), np.log(size)], axis=-1)

    def score(self, candidate: Candidate) -> Scored:
        row = [int(index) for index in candidate.precision.split()]
        sums = np.sum([table[i] for table, i in zip(self.layout, row, strict=False)], axis=0)
        latency, quality, size = self.losses(sums, *row[len(self.layout) :])
        cost = Cost(float(np.exp(latency)), round(1e6 * float(np.exp(size))), 0)
        return Scored(candidate, cost, -float(quality))

    def exact(self) -> Floats:
        """The exact front, as `loss_values` gives it."""
        sums = exact_front(self.layout).values
        rest = (range(SIZES[name]) for name in ("decoder", "precision", "steps"))
        values = np.concatenate([self.losses(sums, *row) for row in itertools.product(*rest)])
        values = values[non_dominated(values)]
        values[:, 2] += np.log(1e6)
        return values

    @property
    def scoring(self) -> Scoring:
        return Scoring(_candidate, self.score)


def _table(random: np.random.Generator, count: int) -> Floats:
    """The teacher's own choice costs most and loses nothing; each next one saves and loses."""
    saved, lost, smaller = (
        np.concatenate([[0.0], amounts]).cumsum()
        for amounts in (
            random.random(count - 1), random.lognormal(-2.5, 1.0, count - 1),
            random.random(count - 1),
        )
    )  # fmt: skip
    return np.column_stack([1.3 * saved[-1] - saved, lost, 1.3 * smaller[-1] - smaller])


def _candidate(setting: Setting) -> Candidate:
    """Its choices stand in for its precision: nothing here looks at the rest."""
    text = " ".join(str(setting[name]) for name in DIMENSIONS)
    return Candidate(arch=_ARCH, decoder_width=1, steps=1, precision=text)


Progress = Iterator[tuple[int, list[Scored]]]


def sampler_progress(name: str, seed: int, model: Model) -> Progress:
    """What a sampler of Optuna has found, after every trial."""
    import optuna

    space = {key: optuna.distributions.CategoricalDistribution(x) for key, x in DIMENSIONS.items()}
    study = optuna.create_study(directions=list(DIRECTIONS), sampler=make_sampler(name, seed))
    for known in (FULL, CHEAPEST):
        study.enqueue_trial(dict(known))
    points: list[Scored] = []
    while True:
        trial = study.ask(dict(space))
        points.append(model.score(_candidate(trial.params)))
        study.tell(trial, values_of(points[-1]))
        yield len(points), points


def sweep_progress(seed: int, model: Model) -> Progress:
    """The sweep's front, after every round."""
    memo = Memo(model.scoring, lambda: None)
    sweep, done = Sweep(DIMENSIONS, memo, seed, [FULL, CHEAPEST]), 2
    while True:
        done += sweep.round()
        yield done, sweep.points


def study_share(seed: int, model: Model, exact: Floats) -> str:
    """A whole study as `edgekd search` makes it, its database in a file."""
    with tempfile.TemporaryDirectory() as folder:
        url = sqlite_url(Path(folder) / "study.sqlite")
        plan = StudyPlan("compare", "", DIMENSIONS, [FULL, CHEAPEST], url, "tpe", seed)
        begin = time.process_time()
        outcome = run_study(plan, model.scoring, StudyBudget())
        seconds = time.process_time() - begin
    shares = [_share(list(outcome.points), exact, objectives) for objectives in (3, 2)]
    return (
        f"{shares[0]:.4f}, of latency and quality alone {shares[1]:.4f}, in {seconds:.1f} s: "
        f"{outcome.trials} trials of {outcome.candidates} scored candidates, "
        f"{outcome.candidates_per_second:.0f} a second"
    )


def _share(points: list[Scored], exact: Floats, objectives: int = 3) -> float:
    """Of the exact front's hypervolume; the full teacher with no quality is the worst.

    Args:
        objectives: 2: of latency and quality alone.
    """
    worst = np.array([exact[:, 0].max() + 0.01, 0.0, exact[:, 2].max() + 0.01])[:objectives]
    found = hypervolume(loss_values(points)[:, :objectives], worst)
    return found / hypervolume(exact[:, :objectives], worst)


def follow(progress: Progress, seconds: float, exact: Floats) -> dict[str, float]:
    """Shares at the marks that are reached in time; taking notes is not timed."""
    notes: dict[str, list[Scored]] = {}
    trials, times = list(TRIALS), list(SECONDS)
    begin = time.process_time()
    for count, points in progress:
        spent = time.process_time() - begin
        for unit, reached, marks in (("", count, trials), (" s", spent, times)):
            while marks and reached >= marks[0]:
                notes[f"{marks.pop(0)}{unit}"] = list(points)
        if spent > seconds or count >= TRIALS[-1]:
            break
    return {mark: _share(points, exact) for mark, points in notes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to search a space.")
    parser.add_argument("ways", nargs="+", choices=[*SAMPLERS, "sweep", "study"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of the processor")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for seed in range(options.seeds):
        model = Model.draw(100 + seed)
        exact = model.exact()
        print(f"seed {seed}: {len(exact)} points on the exact front", flush=True)
        for way in options.ways:
            with quiet():
                if way == "study":
                    print(f"  study: {study_share(seed, model, exact)}", flush=True)
                    continue
                sweeps = way == "sweep"
                progress = (
                    sweep_progress(seed, model) if sweeps else sampler_progress(way, seed, model)
                )
                shares = follow(progress, options.seconds, exact)
            text = ", ".join(f"{mark}: {share:.4f}" for mark, share in shares.items())
            print(f"  {way}: {text}", flush=True)


if __name__ == "__main__":
    main()
