import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from edgekd.diffusion.load import load_model
from edgekd.distill import loop
from edgekd.distill.folder import RunFolder
from edgekd.distill.loop import train_kd
from edgekd.distill.objective import Objective
from edgekd.errors import GateError, InputError
from edgekd.progress import Silent
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.resolve import resolve
from edgekd.training.log import read_rows


def _numbers(path: Path) -> list[dict[str, Any]]:
    """Rows without times, which no rerun repeats."""
    return [
        {name: value for name, value in row.items() if not name.endswith(("_s", "_bytes"))}
        for row in read_rows(path)
    ]


def _weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_run_leaves_a_student_and_its_records(bench, tmp_path):
    result = bench.run(tmp_path / "run")
    assert load_model(tmp_path / "run", "unet").dtype == torch.float32
    assert result.path == tmp_path / "run" / "unet"
    rows = read_rows(result.metrics_path)
    assert [row["step"] for row in rows] == [0, 1, 2, 2, 3, 4, 4]
    first = rows[1]
    terms = ("task", "output", "feature")
    assert first["loss"] == pytest.approx(sum(first[f"{name}_weighted"] for name in terms))
    assert {"grad_norm", "lr", "samples_per_s", *terms} < set(first)
    costs = [row for row in rows if "peak_bytes" in row]
    assert [row["step"] for row in costs] == [2, 4]
    for name in ("batch", "teacher_forward", "student_forward", "losses_and_backward", "EMA"):
        assert costs[0][f"{name}_s"] > 0
    assert rows[-1]["validation_output"] < rows[0]["validation_output"]
    assert [p.name for p in (tmp_path / "run" / "samples").iterdir()] == ["step-00000004.png"]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_weights_scale_terms(bench, tmp_path):
    trainer = bench.trainer(tmp_path, losses={"task": 0.5, "output": 0, "feature": 2})
    with trainer.attached():
        row = trainer._step(0)
    assert row["task_weighted"] == 0.5 * row["task"]
    assert row["feature_weighted"] == 2 * row["feature"]
    assert "output" not in row


# Terms that choose a part of a batch, and weights that are measured and change.
BALANCED = {
    "self_attention": 1,
    "cross_attention": 1,
    "attention_layers": 1,
    "attention_queries": 5,
    "balance": "initial",
    "hints_until": 0.8,
}


def test_measured_weights_do_not_follow_from_the_batch_size(bench, tmp_path):
    """A run may go on with the same samples a step in other micro-batches and processes."""
    weights = [
        bench.trainer(tmp_path / str(size), batch_size=size, losses=BALANCED).lesson.weights_at(0)
        for size in (1, 2, 3)
    ]
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="default"),
        pytest.param({"losses": BALANCED}, id="balanced"),
        pytest.param({"optimizer": "adamw_8bit"}, id="8-bit"),
    ],
)
def test_a_stopped_run_goes_on_with_the_same_bits(bench, tmp_path, monkeypatch, changed):
    changes = {"steps": 5, **changed}
    whole = bench.trainer(tmp_path / "whole", **changes)
    whole.run(Silent())

    stopped = bench.trainer(tmp_path / "stopped", **changes)
    step = stopped._step
    with monkeypatch.context() as patch:
        patch.setattr(stopped, "_step", lambda n: step(n) if n < 3 else _interrupt())
        with pytest.raises(KeyboardInterrupt):
            stopped.run(Silent())
    assert _numbers(tmp_path / "stopped" / "metrics.jsonl")[-1]["step"] == 3
    assert not (tmp_path / "stopped" / "unet").exists()

    resumed = bench.trainer(tmp_path / "stopped", **changes)
    resumed.run(Silent())
    assert torch.equal(_weights(resumed.student), _weights(whole.student))
    assert torch.equal(_weights(resumed.ema.model), _weights(whole.ema.model))
    curves = [_numbers(tmp_path / name / "metrics.jsonl") for name in ("whole", "stopped")]
    assert curves[0] == curves[1]


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_finished_run_is_not_run_again(bench, tmp_path, monkeypatch):
    first = bench.run(tmp_path)
    before = first.metrics_path.read_bytes()
    monkeypatch.setattr(loop, "Trainer", lambda *args: _interrupt())
    # As of a process that was killed between its last file and its end.
    checkpoints = RunFolder(tmp_path, "key").checkpoints
    checkpoints.save(2, {"student": {"weight": torch.ones(1)}})
    assert bench.run(tmp_path) == first
    assert first.metrics_path.read_bytes() == before
    assert not checkpoints.folder.exists()


def test_another_key_starts_anew(bench, tmp_path):
    bench.trainer(tmp_path, key="one", steps=2).run(Silent())
    (tmp_path / "samples" / "step-00000001.png").touch()
    (tmp_path / "samples" / "mine.png").touch()
    (tmp_path / "checkpoints" / "mine.txt").touch()
    bench.run(tmp_path, key="two", steps=3)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in rows if "loss" in r] == [1, 2, 3]
    samples = sorted(p.name for p in (tmp_path / "samples").iterdir())
    assert samples == ["mine.png", "step-00000003.png"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["mine.txt"]
    assert json.loads((tmp_path / "artifact.json").read_text())["key"] == "two"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_stops_before_the_weights_change(
    bench, tmp_path, monkeypatch, value
):
    trainer = bench.trainer(tmp_path, checkpoint_every=2)
    terms = Objective.terms
    calls = []

    def broken(self, batch):
        calls.append(1)
        result = terms(self, batch)
        if len(calls) == 4:
            before.append(_weights(trainer.student))
            result["feature"] = result["feature"] * value
        return result

    before: list[torch.Tensor] = []
    monkeypatch.setattr(Objective, "terms", broken)
    with pytest.raises(GateError, match=r"`feature`.* at step 4.*step-00000002") as error:
        trainer.run(Silent())
    assert "\n" not in str(error.value)
    assert torch.equal(_weights(trainer.student), before[0])
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl") if "loss" in row] == [
        1,
        2,
        3,
    ]
    assert RunFolder(tmp_path, "key").checkpoints.latest(Silent()).step == 2


def test_a_gradient_that_is_not_finite_stops_too(bench, tmp_path, monkeypatch):
    trainer = bench.trainer(tmp_path)
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *a, **k: torch.tensor(float("nan"))
    )
    with pytest.raises(GateError, match=r"`gradient`.* at step 1.*checkpoint: none"):
        trainer.run(Silent())


def test_accumulated_micro_batches_equal_one_batch(bench, tmp_path):
    trainers = [
        bench.trainer(tmp_path, steps=1, batch_size=4, gradient_accumulation=1),
        bench.trainer(tmp_path, steps=1, batch_size=1, gradient_accumulation=4),
    ]
    rows = []
    for trainer in trainers:
        with trainer.attached():
            rows.append(trainer._step(0))
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-5)
    assert rows[0]["grad_norm"] == pytest.approx(rows[1]["grad_norm"], rel=1e-4)


def test_random_start_is_seeded_and_not_the_teachers(bench, tmp_path):
    before = torch.get_rng_state()
    one, two = (bench.trainer(tmp_path, initialise="random").student for _ in range(2))
    other = bench.trainer(tmp_path, initialise="random", seed=1).student
    inherited = bench.trainer(tmp_path).student
    assert torch.equal(_weights(one), _weights(two))
    assert not torch.equal(_weights(one), _weights(other))
    assert not torch.equal(_weights(one), _weights(inherited))
    assert one.config["block_out_channels"] == inherited.config["block_out_channels"]
    assert torch.equal(torch.get_rng_state(), before)


def test_empty_splits_are_refused(bench, tmp_path):
    empty = type(bench.train)(bench.teacher, 0, 0)
    for changed, name in (("train", "training"), ("validation", "validation")):
        with pytest.raises(InputError, match=f"the {name} split"):
            replace(bench, **{changed: empty}).run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_out_folder_that_cannot_be_written(bench, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be writable"):
        bench.run(tmp_path / "file" / "run")


@pytest.mark.parametrize("family", ["tiny_sd2_teacher", "tiny_sdxl_teacher"])
def test_v_prediction_and_sdxl_teachers_train(make_bench, request, tmp_path, family):
    bench = make_bench(request.getfixturevalue(family))
    result = bench.run(tmp_path, steps=6, validate_every=6)
    rows = [row for row in read_rows(result.metrics_path) if "validation_output" in row]
    assert rows[-1]["validation_output"] < rows[0]["validation_output"]
    shutil.rmtree(tmp_path)


def test_a_narrowed_student_is_compared_and_leaves_without_its_projections(bench, tmp_path):
    stages = (StageArch(), StageArch(), StageArch(width=48), StageArch(width=48))
    arch = resolve(StudentArch(stages=stages), dict(bench.teacher.unet.config))
    section = bench.section(losses={"activation_map": 1, "self_attention": 1, "cross_attention": 1})
    folder = RunFolder(tmp_path, "key")
    trainer = bench.trainer(tmp_path, arch=arch, losses=section.losses.model_dump())
    before = {name: module.weight.clone() for name, module in trainer.student.projections.items()}
    assert len(before) == 5
    with trainer.attached():
        for step in range(2):
            trainer._step(step)
    for name, module in trainer.student.projections.items():
        assert not torch.equal(module.weight, before[name])

    result = train_kd(section, arch, bench, folder, Silent())
    unet = load_model(tmp_path, "unet")
    assert unet.config.block_out_channels == [32, 32, 48, 48]
    stored = safetensors.torch.load_file(next(result.path.glob("*.safetensors")))
    assert set(stored) == set(unet.state_dict())


def test_a_launch_of_other_processes_removes_nothing(bench, tmp_path, monkeypatch):
    result = bench.run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"was trained by 1 process.*samples a step.*got 2 proc"):
        bench.run(tmp_path, key="other")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    # What is finished is found by any number.
    assert bench.run(tmp_path) == result


def test_checkpoints_are_kept_from_a_launch_of_other_processes(bench, tmp_path, monkeypatch):
    bench.trainer(tmp_path, checkpoint_every=2)._save(2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="was trained by 1 process"):
        bench.run(tmp_path, key="other")
    assert RunFolder(tmp_path, "key").checkpoints.latest(Silent()).step == 2
