"""Two processes of one launch: one does the job, the other trains along."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekd.jobs import ranks
from edgekd.training import sharding
from edgekd.training.log import read_rows

# What `edgekd distill` does up to the student.
_DRIVER = """
import json, sys
from pathlib import Path
from edgekd.jobs.phases import train_student
from edgekd.jobs.plan import make_plan
from edgekd.jobs.prepare import prepare_data
from edgekd.jobs.ranks import follow, share
from edgekd.progress import Silent
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.target import load_target
from edgekd.training.sharding import rank

recipe, run = Recipe.model_validate(json.loads(sys.argv[1])), Path(sys.argv[2])
if rank() > 0:
    follow()
else:
    plan = make_plan(recipe, load_target("onnx"), run)
    with open_run(run):
        _, cache = prepare_data(plan.recipe, plan.teacher.path, run, Silent())
        share(plan, cache, run / "distill")
        train_student(plan, cache, run / "distill", Silent())
"""


PHASES = ("kd", "few_step", "decoder", "text_encoder")


def with_batch(recipe: dict[str, Any], size: int) -> str:
    """The recipe with every phase, each at this batch size."""
    distill = {**recipe["distill"], "phases": PHASES, "batch_size": size}
    loop = {"steps": 3, "validation_samples": 2, "validate_every": 3}
    for phase in PHASES[1:]:
        distill[phase] = {**loop, **distill.get(phase, {}), "batch_size": size}
    return json.dumps({**recipe, "distill": distill})


def run(command: list[str], *arguments: str) -> None:
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def losses(out: Path, phase: str) -> list[float]:
    rows = read_rows(out / "distill" / phase / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


def test_two_processes_distil_the_same_student_as_one(tiny_recipe, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(_DRIVER)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    one, two = tmp_path / "one", tmp_path / "two"
    run([sys.executable, str(script)], with_batch(tiny_recipe, 2), str(one))
    run([sys.executable, *launch, str(script)], with_batch(tiny_recipe, 1), str(two))
    for phase in PHASES:
        curve = losses(one, phase)
        assert len(curve) == 3
        # The same samples and noise; sums over two processes round otherwise than over one.
        assert losses(two, phase) == pytest.approx(curve, rel=1e-3)
    assert (two / "distill" / "student" / "model_index.json").is_file()
    # As many samples a step are the same training: nothing is left to do.
    records = [two / "distill" / phase / "metrics.jsonl" for phase in PHASES]
    before = [path.read_bytes() for path in records]
    run([sys.executable, str(script)], with_batch(tiny_recipe, 2), str(two))
    assert [path.read_bytes() for path in records] == before


def test_alone_nobody_is_told(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(ranks, "_store", lambda: pytest.fail("there is no launcher"))
    ranks.share(None, None, Path())
    assert sharding.rank() == 0
