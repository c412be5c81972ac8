"""The few-step methods without trajectories, on small teachers."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.artifacts import Trajectories
from edgekd.diffusion.load import load_model, make_pipeline
from edgekd.distill.conditions import caption_conditions
from edgekd.distill.deployment import student_drawing
from edgekd.distill.distribution import DistributionMatching
from edgekd.distill.folder import RunFolder
from edgekd.distill.guidance import guidance_embedding
from edgekd.distill.lessons import few_step_lesson
from edgekd.distill.loop import FewStepPlaces, make_accelerator, train_few_step
from edgekd.distill.sources import Sources
from edgekd.distill.trainer import Trainer
from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.progress import Silent
from edgekd.recipe_distill import DistillSection
from edgekd.student.build import build_student
from edgekd.student.resolve import full
from edgekd.training.draws import sample_indices
from edgekd.training.log import read_rows

FEW = {
    "student_steps": 2,
    "guidance_scale": 4.0,
    "fake_updates": 2,
    "steps": 4,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "ema_decay": 0.9,
    "checkpoint_every": 2,
    "validate_every": 20,
    "validation_samples": 4,
}
METHODS = ["consistency", "distribution"]


@pytest.fixture(scope="module")
def bench(make_bench, shallow_teacher) -> Any:
    return make_bench(shallow_teacher)


def _section(method: str, **changes: Any) -> DistillSection:
    values = {"precision": "fp32", "sample_prompts": ["a red apple"], "phases": ["few_step"]}
    few_step = {**FEW, "method": method, **changes}
    return DistillSection.model_validate({**values, "few_step": few_step})


def _whole(sources: Any) -> Any:
    unet = sources.teacher.unet
    return build_student(unet, full(dict(unet.config)))


def no_trajectories() -> Any:
    raise AssertionError("these methods learn without the teacher's trajectories")


def _trainer(bench: Any, out: Path, method: str, **changes: Any) -> Trainer:
    section, accelerator = _section(method, **changes), make_accelerator()
    sources = bench.load(accelerator.device)
    lesson = few_step_lesson(section, _whole(sources), sources, no_trajectories, accelerator)
    return Trainer(section.few_step, lesson, RunFolder(out, "key"), accelerator)


def _weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


FAMILIES = ["shallow_teacher", "shallow_sd2_teacher", "shallow_sdxl_teacher"]


def _run(bench: Any, out: Path, section: DistillSection) -> list[dict[str, Any]]:
    """Rows of a whole run's log."""
    places = FewStepPlaces(RunFolder(out / "few_step", "key"), Trajectories(out / "other", "key"))
    result = train_few_step(section, _whole, bench, places, Silent())
    assert not places.trajectories.root.exists()
    assert load_model(result.path.parent, "unet").dtype == torch.float32
    sheets = [path.name for path in (out / "few_step" / "samples").iterdir()]
    assert sheets == [f"step-{section.few_step.steps:08d}.png"]
    return read_rows(result.metrics_path)


@pytest.mark.parametrize("family", ["tiny_teacher", "tiny_sd2_teacher"])
def test_consistency_training_lowers_the_held_out_loss(make_bench, request, tmp_path, family):
    bench = make_bench(request.getfixturevalue(family))
    rows = _run(bench, tmp_path, _section("consistency", steps=10, learning_rate=3e-4))
    held_out = [row["validation_picture"] for row in rows if "validation_picture" in row]
    assert held_out[-1] < held_out[0]


@pytest.mark.parametrize(
    ("method", "family", "held_out"),
    [
        *(("distribution", family, "validation_real") for family in FAMILIES),
        ("consistency", "shallow_sdxl_teacher", "validation_picture"),
    ],
)
def test_any_teacher_can_be_learned_from(make_bench, request, tmp_path, method, family, held_out):
    """Of random weights: within two steps there is nothing to get better at."""
    bench = make_bench(request.getfixturevalue(family))
    rows = _run(bench, tmp_path, _section(method, steps=2, fake_updates=1))
    assert [row["step"] for row in rows if row.get(held_out, 0) > 0] == [0, 2]
    losses = [row for row in rows if "loss" in row]
    assert all(row["loss"] == row[method] > 0 for row in losses)
    assert all(row.get("fake_score", 1) > 0 for row in losses)


class Normal(nn.Module):
    """The exact noise prediction where pictures are of a normal distribution."""

    def __init__(self, mean: float, alphas: torch.Tensor) -> None:
        super().__init__()
        self.mean, self._alphas = nn.Parameter(torch.full((4, 1, 1), mean)), alphas
        self.config, self.device = SimpleNamespace(sample_size=8), torch.device("cpu")

    def forward(self, latents: Any, timesteps: Any, states: Any, **others: Any) -> Any:
        alpha = self._alphas[timesteps][:, None, None, None]
        noise = (1 - alpha).sqrt() / (alpha * 0.25 + 1 - alpha)
        return (noise * (latents - alpha.sqrt() * self.mean),)


def test_distribution_matching_moves_pictures_to_the_teachers(bench, tmp_path):
    alphas = bench.teacher.scheduler.alphas_cumprod
    teacher = replace(bench.teacher, unet=Normal(0.0, alphas).requires_grad_(False))
    changes = {"learning_rate": 0.05, "lr_schedule": "constant", "fake_updates": 5}
    section, accelerator = _section("distribution", **changes), make_accelerator()
    sources = Sources(teacher, bench.train, bench.validation)
    student = Normal(1.0, alphas)
    lesson = DistributionMatching(section, student, sources, accelerator)
    trainer = Trainer(section.few_step, lesson, RunFolder(tmp_path, "key"), accelerator)
    with trainer.attached():
        means = []
        for step in range(40):
            trainer._step(step)
            means.append(float(student.mean.detach().abs().max()))
    assert means[0] > 0.9
    # It swings about the teacher's, as the fake score runs after it.
    assert max(means[-10:]) < 0.3


def test_a_student_that_is_its_teacher_stays(bench, tmp_path):
    """Without guidance, and with a fake score that has not learned anything else."""
    trainer = _trainer(bench, tmp_path, "distribution", guidance_scale=1.0)
    trainer.lesson._fake.update = lambda batch, step: torch.zeros(())
    with trainer.attached():
        row = trainer._step(0)
    # Two passes of other batch sizes differ in the last bits.
    assert row["loss"] < 1e-8
    guided = _trainer(bench, tmp_path, "distribution", guidance_scale=4.0)
    with guided.attached():
        assert guided._step(0)["loss"] > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_a_teacher_whose_guidance_stops_at_once_is_not_guided(bench, tmp_path, method):
    def loss(**changes: Any) -> float:
        trainer = _trainer(bench, tmp_path, method, **changes)
        with trainer.attached():
            return float(trainer._step(0)["loss"])

    stopped, whole = loss(guidance_stop=1e-4), loss()
    # Students do not listen yet to the scale that they are told.
    assert stopped == pytest.approx(loss(guidance_scale=1.0, guidance_range=(1.0, 1.0)), rel=1e-4)
    assert stopped != pytest.approx(whole, rel=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_goes_on_with_the_same_bits(bench, tmp_path, monkeypatch, method):
    whole = _trainer(bench, tmp_path / "whole", method)
    whole.run(Silent())
    stopped = _trainer(bench, tmp_path / "stopped", method)
    update = stopped._update

    def interrupted(step: int, number: int) -> dict[str, float]:
        row = update(step, number)
        if step == 2:  # after the weights changed, before anything is saved
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(stopped, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(Silent())
    resumed = _trainer(bench, tmp_path / "stopped", method)
    resumed.run(Silent())
    assert torch.equal(_weights(resumed.student), _weights(whole.student))
    assert torch.equal(_weights(resumed.ema.model), _weights(whole.ema.model))
    ours, theirs = resumed.lesson.state(), whole.lesson.state()
    assert ours.keys() == theirs.keys()
    assert bool(ours) == (method == "distribution")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("method", METHODS)
def test_accumulated_micro_batches_equal_one_batch(bench, tmp_path, method):
    """Two steps, so that what the fake score has learned of the first counts too."""
    rows, states = [], []
    for size, accumulation in ((2, 1), (1, 2)):
        changes = {"batch_size": size, "gradient_accumulation": accumulation}
        trainer = _trainer(bench, tmp_path, method, **changes)
        with trainer.attached():
            rows.append([trainer._step(step) for step in range(2)])
        states.append(trainer.lesson.state())
    for one, two in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-3)
        assert one.get("fake_score") == pytest.approx(two.get("fake_score"), rel=1e-4)
    for name, value in states[0].items():
        apart = (value - states[1][name]).detach().norm()
        assert float(apart) <= 1e-4 * float(value.detach().norm())  # seen: 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stock_sampler_draws_what_distribution_matching_saw(
    make_bench, request, tmp_path, monkeypatch, family
):
    """Stock diffusers with the deployed sampler, its noise being that of the training."""
    bench = make_bench(request.getfixturevalue(family))
    lesson: Any = _trainer(bench, tmp_path, "distribution", student_steps=3).lesson
    start = lesson._start(range(2), "student", bench.train)
    session = student_drawing(lesson._setup.section, bench.teacher.scheduler)
    rows = sample_indices(lesson._setup.section.seed, range(2), len(bench.train))
    noise = iter([start.noise[:, 1], start.noise[:, 2]])
    monkeypatch.setattr(
        diffusers.schedulers.scheduling_lcm, "randn_tensor", lambda *a, **k: next(noise)
    )
    teacher = replace(bench.teacher, unet=lesson.model, scheduler=session.scheduler)
    with torch.no_grad():
        pictures = make_pipeline(teacher)(
            prompt=[bench.train.captions(int(row)) for row in rows],
            latents=start.noise[:, 0],
            num_inference_steps=session.steps,
            guidance_scale=session.guidance_scale,
            output_type="latent",
        ).images
        found = lesson._draw(lesson.model, start, 2)
    torch.testing.assert_close(found, pictures, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stock_sampler_draws_what_consistency_saw(make_bench, request, tmp_path, family):
    """One step of stock diffusers, told the guidance scale, is the jump of the training."""
    bench = make_bench(request.getfixturevalue(family))
    lesson: Any = _trainer(bench, tmp_path, "consistency", student_steps=1).lesson
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(lesson.model.time_embedding.cond_proj.weight, std=0.1)
    session = student_drawing(lesson._setup.section, bench.teacher.scheduler)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    teacher = replace(bench.teacher, unet=lesson.model, scheduler=session.scheduler)

    def drawn(scale: float) -> torch.Tensor:
        return make_pipeline(teacher)(
            prompt=[bench.train.captions(i) for i in (0, 1)],
            latents=noise,
            num_inference_steps=session.steps,
            guidance_scale=scale,
            output_type="latent",
        ).images

    said = caption_conditions(bench.teacher, bench.train, torch.tensor([0, 1]), 8)
    batch = said.batch(noise, torch.tensor([999, 999]))
    with torch.no_grad():
        told = replace(batch, timestep_cond=guidance_embedding(torch.tensor([4.0, 4.0])))
        # The embedding is rounded in another order: see its test.
        torch.testing.assert_close(
            lesson._jump(lesson.model, told), drawn(4.0), atol=5e-2, rtol=1e-3
        )
    assert float((drawn(4.0) - drawn(8.0)).abs().max()) > 0.1


def test_the_target_is_the_average(bench, tmp_path):
    """Of the first step: the student's own picture, from the point before."""
    trainer = _trainer(bench, tmp_path, "consistency")
    lesson: Any = trainer.lesson
    with trainer.attached():
        before = lesson.terms(0, 0, 0)["consistency"].detach()
        with torch.no_grad():
            for parameter in trainer.ema.model.parameters():
                parameter.mul_(1.01)
        after = lesson.terms(0, 0, 0)["consistency"]
        assert lesson.terms(0, 0, 0)["consistency"] == after
    assert float(after.detach()) != float(before)
    after.backward()
    assert all(p.grad is None for p in trainer.ema.model.parameters())
    assert trainer.student.time_embedding.cond_proj.weight.grad.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_schedule_that_the_sampler_cannot_take(bench, tmp_path, method):
    odd = diffusers.DDIMScheduler.from_config(bench.teacher.scheduler.config)
    odd.register_to_config(num_train_timesteps=990)
    odd.alphas_cumprod = odd.alphas_cumprod[:990]
    other = replace(bench, teacher=replace(bench.teacher, scheduler=odd))
    with pytest.raises(InputError, match="must be a multiple of 50"):
        _trainer(other, tmp_path, method)
