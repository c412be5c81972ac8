"""The shared training loop: schedule, averages, checkpoints, processes."""

import copy
import json

import numpy as np
import pytest
import torch
from fixtures.toy import PHASES, losses, place, run, section, task

from edgekd.errors import GateError, InputError
from edgekd.teach.loop import Keys, StageTrainer, rate_schedule, run_task, step_at
from edgekd.teach.ranks import Ranks
from edgekd.training.ema import decay_at
from edgekd.training.log import METRICS_FILE

NEWEST = "checkpoints/step-00000010"


def trainer_of(folder, chosen=None, **changes):
    return StageTrainer(chosen or task(), section(**changes), place(folder))


def test_positions_run_on_through_phases_and_ranks():
    steps = [step_at(n, section(), Ranks()) for n in range(10)]
    assert np.concatenate([s.positions for s in steps]).tolist() == list(range(6 * 4 + 4 * 8))
    assert [s.batch_size for s in steps] == [4] * 6 + [8] * 4
    for number in (0, 6, 9):
        shares = [step_at(number, section(), Ranks(rank, 2)).positions for rank in (0, 1)]
        assert np.concatenate(shares).tolist() == steps[number].positions.tolist()


def test_averages_of_trained_modules_keep_a_full_memory(tmp_path):
    for trained, memory in ((True, 0.999), (False, 0.1)):
        chosen = task()
        chosen.trained = trained
        before = chosen.modules["model"].weight.detach().clone()
        trainer = trainer_of(tmp_path, chosen, ema_decay=0.999)
        trainer.train_step()
        after, average = chosen.modules["model"].weight, trainer.averaged["model"].weight
        assert not torch.equal(after, before)
        assert torch.allclose(average, memory * before + (1 - memory) * after, atol=1e-7)


def test_step_is_adamw_and_ema(tmp_path):
    ours = task()
    reference = copy.deepcopy(ours.modules["model"])
    trainer = trainer_of(tmp_path, ours, max_grad_norm=1e9)
    optimizer = torch.optim.AdamW(reference.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    average = reference.weight.detach().clone()
    for number in range(5):
        trainer.train_step()
        step = step_at(number, section(), Ranks())
        x = torch.from_numpy(np.sin(step.positions)).float()[:, None]
        optimizer.zero_grad()
        (reference(x) - (3 * x - 1)).square().mean().backward()
        optimizer.param_groups[0]["lr"] = 0.05 * rate_schedule(section()).at(number)
        optimizer.step()
        average.lerp_(reference.weight.detach(), 1 - decay_at(number, 0.999))
    model = trainer.task.modules["model"]
    # fused and plain AdamW round differently
    torch.testing.assert_close(model.weight, reference.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(trainer.averaged["model"].weight, average, rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped(tmp_path):
    trainer = trainer_of(tmp_path, max_grad_norm=0.1)
    assert trainer.train_step()["grad_norm"] > 0.1
    model = trainer.task.modules["model"]
    assert torch.stack([model.weight.grad.norm(), model.bias.grad.norm()]).norm() <= 0.1001


def test_frozen_module_stays(tmp_path):
    before = copy.deepcopy(task().modules["frozen"].state_dict())
    averaged = run(tmp_path)["frozen"].state_dict()
    assert all(torch.equal(averaged[name], before[name]) for name in before)


def test_muon_steps_the_matrices_alone(tmp_path):
    trainer = trainer_of(tmp_path, task(matrices=["model.weight"]))
    model = trainer.task.modules["model"]
    adamw = trainer_of(tmp_path)
    before = model.weight.detach().clone()
    trainer.train_step()
    adamw.train_step()
    assert torch.equal(model.bias, adamw.task.modules["model"].bias)
    # A matrix of one value has one direction, and is made about 1 long.
    moved = (model.weight - before).abs() / (0.05 * rate_schedule(section()).at(0))
    assert 0.2 * 0.65 < float(moved.detach()) < 0.2 * 1.25


@pytest.mark.parametrize("before", [[], ["model.weight"]])
def test_another_optimiser_goes_on_from_the_weights(tmp_path, before):
    first = trainer_of(tmp_path, task(matrices=before))
    first.train_step()
    first.save()
    after = [] if before else ["model.weight"]
    second = trainer_of(tmp_path, task(matrices=after))
    assert second.restore()
    model, reached = second.task.modules["model"], first.task.modules["model"]
    assert torch.equal(model.weight, reached.weight)
    assert second.train_step()["loss"] == first.train_step()["loss"]
    assert not torch.equal(model.weight, reached.weight)
    assert torch.equal(model.bias, reached.bias)


@pytest.mark.parametrize("matrices", [[], ["model.weight"]])
@pytest.mark.parametrize("killed_at", [1, 5, 7, 9])
def test_resume_is_exact(tmp_path, killed_at, matrices, monkeypatch):
    whole = run(tmp_path / "whole", matrices=matrices)
    train_step = StageTrainer.train_step

    def dying_step(self):
        if self.step == killed_at:
            raise KeyboardInterrupt
        return train_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "train_step", dying_step)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", matrices=matrices)
    # A row later than the checkpoint, and one that was cut off.
    with open(tmp_path / "killed" / METRICS_FILE, "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": killed_at + 1, "loss": 0.0}) + '\n{"step": 3, "lo')
    resumed = run(tmp_path / "killed", matrices=matrices)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 10 + 2
    assert torch.equal(resumed["model"].weight, whole["model"].weight)


def test_another_structure_starts_again_and_keeps_the_old_checkpoint(tmp_path):
    run(tmp_path)
    first, rows = losses(tmp_path), (tmp_path / METRICS_FILE).read_bytes()
    checkpoint = (tmp_path / NEWEST / "model.safetensors").read_bytes()
    run(tmp_path, keys=Keys("other", "settings"))
    run(tmp_path, keys=Keys("third", "settings"))
    assert losses(tmp_path) == first
    kept = tmp_path / "checkpoints.1" / "step-00000010" / "model.safetensors"
    assert kept.read_bytes() == checkpoint
    assert (tmp_path / "metrics.1.jsonl").read_bytes() == rows
    assert (tmp_path / "checkpoints.2").is_dir()
    assert (tmp_path / "metrics.2.jsonl").is_file()


@pytest.mark.parametrize("phases", [PHASES, PHASES[:1]])
def test_other_settings_with_no_step_left_are_refused(tmp_path, phases):
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    others = Keys("structure", "other settings")
    with pytest.raises(InputError, match=r"must leave steps of toy.*step 10 of.*more steps"):
        run(tmp_path, keys=others, phases=phases)
    assert {path: path.read_bytes() for path in before} == before


def test_the_end_of_the_same_settings_is_reached_again(tmp_path):
    reached = run(tmp_path)["model"].weight
    assert torch.equal(run(tmp_path)["model"].weight, reached)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    """The run goes on from the one before it, and its rows from there."""
    whole = run(tmp_path)["model"].weight
    rows = losses(tmp_path)
    (tmp_path / NEWEST / "average.safetensors").unlink()
    with open(tmp_path / METRICS_FILE, "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": 10, "loss": 7.0}) + "\n")
    assert torch.equal(run(tmp_path)["model"].weight, whole)
    assert losses(tmp_path) == rows


def test_more_steps_go_on_from_the_end(tmp_path):
    run(tmp_path)
    longer = [*PHASES, {"steps": 2, "batch_size": 8}]
    run(tmp_path, keys=Keys("structure", "other settings"), phases=longer)
    steps = [row["step"] for row in losses(tmp_path) if "loss" in row]
    assert steps == list(range(1, 13))


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path):
    with pytest.raises(
        GateError, match=r"gradient must be finite.*at step 4.*last good checkpoint"
    ):
        run(tmp_path, bad_step=4)
    assert [row["step"] for row in losses(tmp_path)][-1] == 4
    assert (tmp_path / "checkpoints" / "step-00000004").is_dir()


def test_a_figure_of_validation_that_is_not_finite_stops_too(tmp_path):
    chosen = task()
    chosen.validate = lambda averaged: {"validation_loss": float("nan")}
    with pytest.raises(GateError, match=r"must be finite.*at step 5"):
        run_task(chosen, section(), place(tmp_path))


def test_a_gradient_that_is_not_finite_reaches_no_weight(tmp_path):
    trainer = trainer_of(tmp_path, task(edge_step=0))
    before = copy.deepcopy(trainer.task.modules["model"].state_dict())
    with pytest.raises(GateError, match=r"toy loss and its gradient.*at step 0") as raised:
        trainer.train_step()
    assert "checkpoint" not in str(raised.value)
    after = trainer.task.modules["model"].state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
