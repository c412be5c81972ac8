"""Trajectories and few-step training on small teachers."""

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.artifacts import Trajectories
from edgekd.benchmark.training_sheets import training_sheet
from edgekd.diffusion.load import load_model, make_pipeline
from edgekd.distill import trajectories as module
from edgekd.distill.deployment import student_drawing
from edgekd.distill.few_step import Drawn
from edgekd.distill.folder import RunFolder
from edgekd.distill.lessons import few_step_lesson
from edgekd.distill.loop import FewStepPlaces, make_accelerator, train_few_step
from edgekd.distill.solver import dpm_solver, teacher_timesteps
from edgekd.distill.trainer import Trainer
from edgekd.distill.trajectories import KeptTrajectories, draw_trajectories
from edgekd.errors import GateError, InputError
from edgekd.progress import Silent
from edgekd.recipe_distill import DistillSection
from edgekd.student.build import build_student
from edgekd.student.resolve import full
from edgekd.training.log import read_rows

FEW = {
    "student_steps": 2,
    "teacher_steps": 4,
    "guidance_scale": 3.0,
    "trajectories": 6,
    "steps": 6,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "ema_decay": 0.0,
    "checkpoint_every": 2,
    "validate_every": 6,
    "validation_samples": 4,
}


@pytest.fixture(scope="module")
def bench(make_bench, shallow_teacher) -> Any:
    return make_bench(shallow_teacher)


def _section(guidance: str = "distil", **changes: Any) -> DistillSection:
    values = {"precision": "fp32", "sample_prompts": ["a red apple"], "phases": ["few_step"]}
    values |= {"guidance": guidance}
    return DistillSection.model_validate({**values, "few_step": {**FEW, **changes}})


@pytest.fixture
def drawn(bench, tmp_path) -> Trajectories:
    kept = Trajectories(tmp_path / "trajectories", "key")
    draw_trajectories(_section(), bench.load(torch.device("cpu")), kept, Silent())
    return kept


def _whole(sources: Any) -> Any:
    unet = sources.teacher.unet
    return build_student(unet, full(dict(unet.config)))


def _trainer(bench: Any, kept: Trajectories, out: Path, **changes: Any) -> Trainer:
    section, accelerator = _section(**changes), make_accelerator()
    sources = bench.load(accelerator.device)
    drawn = partial(Drawn.load, kept)
    lesson = few_step_lesson(section, _whole(sources), sources, drawn, accelerator)
    return Trainer(section.few_step, lesson, RunFolder(out, "key"), accelerator)


@pytest.mark.parametrize("family", ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher"])
def test_trajectories_are_pictures_of_the_stock_pipeline(make_bench, request, tmp_path, family):
    bench = make_bench(request.getfixturevalue(family))
    kept = Trajectories(tmp_path / "trajectories", "key")
    draw_trajectories(_section(), bench.load(torch.device("cpu")), kept, Silent())
    found = KeptTrajectories.load(kept, "train")
    assert len(found) == FEW["trajectories"]
    indices = torch.tensor([0, 3, 5])
    states, rows = found.states(indices), found.rows(indices)
    visited = teacher_timesteps(1000, 2, 4)
    solver = dpm_solver(bench.teacher.scheduler, visited)
    pipeline = make_pipeline(replace(bench.teacher, scheduler=solver))
    pictures = pipeline(
        prompt=[bench.train.captions(int(row)) for row in rows],
        latents=states[:, 0],
        timesteps=visited,
        guidance_scale=3.0,
        output_type="latent",
    ).images
    # Kept in half precision.
    torch.testing.assert_close(found.batch(indices), pictures, atol=5e-3, rtol=2e-3)


def test_a_teacher_whose_guidance_stops_is_the_stock_pipelines(bench, tmp_path):
    """Diffusers' own way to stop it: a callback that goes on with the captions alone."""
    section, sources = _section(guidance_stop=0.6), bench.load(torch.device("cpu"))
    kept, seen = Trajectories(tmp_path / "trajectories", "key"), []
    hook = sources.teacher.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    draw_trajectories(section, sources, kept, Silent())
    hook.remove()
    assert sum(map(len, seen)) == sum(section.few_step.drawn.values()) * (3 * 2 + 1)
    assert section.few_step.teacher_passes == 3 * 2 + 1
    found = KeptTrajectories.load(kept, "train")
    states, rows = found.states(torch.arange(2)), found.rows(torch.arange(2))
    visited = teacher_timesteps(1000, 2, 4)
    assert [timestep >= 400 for timestep in visited] == [True, True, True, False]

    def stop(pipeline: Any, index: int, timestep: int, state: dict[str, Any]) -> dict[str, Any]:
        if index == 2:
            pipeline._guidance_scale = 1.0
            state["prompt_embeds"] = state["prompt_embeds"].chunk(2)[-1]
        return state

    solver = dpm_solver(bench.teacher.scheduler, visited)
    pictures = make_pipeline(replace(bench.teacher, scheduler=solver))(
        prompt=[bench.train.captions(int(row)) for row in rows],
        latents=states[:, 0],
        timesteps=visited,
        guidance_scale=3.0,
        callback_on_step_end=stop,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
        output_type="latent",
    ).images
    # Kept in half precision.
    torch.testing.assert_close(found.batch(torch.arange(2)), pictures, atol=5e-3, rtol=2e-3)


def test_trajectories_do_not_depend_on_cores_or_batches(bench, drawn, tmp_path):
    before = torch.get_num_threads()
    other = Trajectories(tmp_path / "other", "key")
    torch.set_num_threads(2)
    try:
        section = _section(batch_size=3)
        draw_trajectories(section, bench.load(torch.device("cpu")), other, Silent())
    finally:
        torch.set_num_threads(before)
    indices = torch.arange(6)
    ours, theirs = (KeptTrajectories.load(kept, "train") for kept in (drawn, other))
    torch.testing.assert_close(ours.states(indices), theirs.states(indices), atol=2e-3, rtol=2e-3)
    assert torch.equal(ours.rows(indices), theirs.rows(indices))
    assert torch.equal(ours.states(indices)[:, 0], theirs.states(indices)[:, 0])


def test_killed_drawing_goes_on_where_it_was(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 2)
    kept = Trajectories(tmp_path / "trajectories", "key")
    draw, drawn = module.TrajectoryDrawer.draw, []

    def once(self: Any, positions: range) -> Any:
        drawn.append((self.split, positions))
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(self, positions)

    monkeypatch.setattr(module.TrajectoryDrawer, "draw", once)
    sources = bench.load(torch.device("cpu"))
    with contextlib.suppress(KeyboardInterrupt):
        draw_trajectories(_section(), sources, kept, Silent())
    assert not kept.root.exists()
    finished = len(drawn) - 1
    draw_trajectories(_section(), sources, kept, Silent())
    assert len(KeptTrajectories.load(kept, "train")) == 6
    assert drawn[:finished] == [("train", range(0, 2)), ("train", range(2, 4))]
    assert ("train", range(0, 2)) not in drawn[finished:]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_damaged_trajectories_are_drawn_again(bench, drawn, harm):
    (shard,) = drawn.root.glob("train-*.safetensors")
    whole = shard.read_bytes()
    harm(shard)
    draw_trajectories(_section(), bench.load(torch.device("cpu")), drawn, Silent())
    assert shard.read_bytes() == whole


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_damaged_student_is_trained_again(bench, tmp_path, harm):
    places = FewStepPlaces(
        RunFolder(tmp_path / "few_step", "key"), Trajectories(tmp_path / "trajectories", "key")
    )
    result = train_few_step(_section(steps=2), _whole, bench, places, Silent())
    (weights,) = result.path.glob("*.safetensors")
    whole = weights.read_bytes()
    harm(weights)
    assert train_few_step(_section(steps=2), _whole, bench, places, Silent()) == result
    assert weights.read_bytes() == whole


def test_a_teacher_that_draws_no_numbers_is_a_failed_gate(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "solve", lambda noise, *rest: noise[:, None] * float("nan"))
    kept = Trajectories(tmp_path / "trajectories", "key")
    with pytest.raises(GateError, match="teacher's pictures must be finite"):
        draw_trajectories(_section(), bench.load(torch.device("cpu")), kept, Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_run_leaves_a_student_that_is_nearer_to_its_teacher(bench, tmp_path):
    places = FewStepPlaces(
        RunFolder(tmp_path / "few_step", "key"), Trajectories(tmp_path / "trajectories", "key")
    )
    section = _section(steps=20, learning_rate=1e-4, sample_every=10)
    result = train_few_step(section, _whole, bench, places, Silent())
    rows = read_rows(result.metrics_path)
    held_out = [row["validation_picture"] for row in rows if "validation_picture" in row]
    assert held_out[-1] < held_out[0]
    assert load_model(result.path.parent, "unet").dtype == torch.float32
    # On the way the student draws as it is deployed alone.
    sheet = training_sheet("few_step", result.metrics_path)
    assert sheet is not None
    own = [f"student, 2 steps, in step {step}" for step in (10, 20)]
    others = ["student, 1 step", "student, 4 steps", "student, 8 steps"]
    assert sheet.rows == ["teacher, 25 steps", *own, *others]
    again = train_few_step(
        _section(steps=20), lambda _: pytest.fail("trained again"), bench, places, Silent()
    )
    assert again == result


@pytest.mark.parametrize(("guidance", "scale"), [("distil", 1.0), ("keep", 3.0)])
def test_the_deployed_scheduler_draws_what_training_saw(bench, drawn, tmp_path, guidance, scale):
    """Stock diffusers with the student's own scheduler, without guidance, or with its own."""
    trainer = _trainer(bench, drawn, tmp_path / "run", guidance=guidance)
    session = student_drawing(trainer.lesson._setup.section, bench.teacher.scheduler)
    assert session.guidance_scale == scale
    held_out = KeptTrajectories.load(drawn, "validation")
    indices = torch.arange(2)
    states, rows = held_out.states(indices), held_out.rows(indices)
    student = replace(bench.teacher, unet=trainer.student, scheduler=session.scheduler)
    pipeline = make_pipeline(student)
    with torch.no_grad():
        pictures = pipeline(
            prompt=[bench.validation.captions(int(row)) for row in rows],
            latents=states[:, 0],
            num_inference_steps=2,
            guidance_scale=session.guidance_scale,
            output_type="latent",
        ).images
        latents = states[:, 0]
        for index in range(2):
            latents = trainer.lesson._step(trainer.student, latents, index, bench.validation, rows)
    torch.testing.assert_close(latents, pictures, atol=1e-4, rtol=1e-4)


def test_a_stopped_run_goes_on_with_the_same_bits(bench, drawn, tmp_path, monkeypatch):
    whole = _trainer(bench, drawn, tmp_path / "whole", steps=5)
    whole.run(Silent())
    stopped = _trainer(bench, drawn, tmp_path / "stopped", steps=5)
    update, calls = stopped._update, []

    def interrupted(step: int, number: int) -> dict[str, float]:
        calls.append((step, number))
        if (step, number) == (3, 1):  # between two updates of a step
            raise KeyboardInterrupt
        return update(step, number)

    monkeypatch.setattr(stopped, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(Silent())
    resumed = _trainer(bench, drawn, tmp_path / "stopped", steps=5)
    resumed.run(Silent())
    for ours, theirs in zip(
        resumed.ema.model.parameters(), whole.ema.model.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_accumulated_micro_batches_equal_one_batch(bench, drawn, tmp_path):
    rows = []
    for size, accumulation in ((4, 1), (2, 2)):
        changes = {"batch_size": size, "gradient_accumulation": accumulation, "steps": 1}
        trainer = _trainer(bench, drawn, tmp_path, **changes)
        with trainer.attached():
            rows.append(trainer._step(0))
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)


def test_steps_that_the_schedule_cannot_take(bench, drawn, tmp_path):
    with pytest.raises(InputError, match="student_steps` must divide"):
        _trainer(bench, drawn, tmp_path, student_steps=3)
