from dataclasses import replace

import pytest
import torch

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batch, Batches
from edgekd.distill.conditions import TextConditions, without_captions
from edgekd.distill.guidance import (
    condition_on_guidance,
    guidance_embedding,
    guided_prediction,
    least_guided,
    scales_at,
)
from edgekd.distill.objective import predict
from edgekd.distill.solver import teacher_timesteps
from edgekd.libraries import diffusers
from edgekd.recipe_distill import FewStepSection
from edgekd.student.build import build_student
from edgekd.student.resolve import full
from edgekd.training.draws import BatchPlan


def _batch(bench) -> Batch:
    teacher = bench.teacher
    batches = Batches(
        bench.train, teacher.info, teacher.vae.config, read_schedule(teacher.scheduler)
    )
    return batches.training(0, range(2), BatchPlan(2), dropout=0.0)


def test_a_scale_is_told_as_diffusers_pipelines_tell_it():
    scales = torch.tensor([1.0, 4.0, 7.5])
    # They pass on the scale less 1.
    theirs = diffusers.StableDiffusionPipeline.get_guidance_scale_embedding
    expected = theirs(None, scales - 1.0, embedding_dim=256)
    # The frequencies are rounded in another order, times angles of up to 6,500.
    torch.testing.assert_close(guidance_embedding(scales), expected, atol=5e-3, rtol=0)


def test_scales_are_1_below_the_lowest_timestep_that_is_guided():
    assert least_guided(1.0, 1000) == 0
    assert least_guided(0.8, 1000) == 200
    timesteps = torch.tensor([999, 200, 199, 0])
    assert scales_at(timesteps, 4.0, 200).flatten().tolist() == [4, 4, 1, 1]
    told = scales_at(timesteps, torch.tensor([2.0, 3.0, 4.0, 5.0]), 200)
    assert told.shape == (4, 1, 1, 1)
    assert told.flatten().tolist() == [2, 3, 1, 1]


@pytest.mark.parametrize("stop", [1.0, 0.8, 0.75, 0.6, 0.5, 1 / 3, 0.01])
@pytest.mark.parametrize(("student", "teacher"), [(1, 7), (2, 8), (2, 12), (4, 16), (5, 12)])
def test_a_recipe_knows_how_many_passes_its_teacher_takes(stop, student, teacher):
    section = FewStepSection(
        student_steps=student, teacher_steps=teacher, guidance_stop=stop, guidance_scale=4.0
    )
    visited = teacher_timesteps(1000, student, teacher)
    guided = [timestep for timestep in visited if timestep >= least_guided(stop, 1000)]
    assert section.teacher_passes == len(visited) + len(guided)
    assert section.model_copy(update={"guidance_scale": 1.0}).teacher_passes == len(visited)


@pytest.mark.parametrize("family", ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher"])
def test_a_conditioned_unet_begins_as_it_was(make_bench, request, family):
    """Bit for bit, at any scale."""
    bench = make_bench(request.getfixturevalue(family))
    unet, batch = bench.teacher.unet, _batch(bench)
    student = condition_on_guidance(build_student(unet, full(dict(unet.config))))
    told = replace(batch, timestep_cond=guidance_embedding(torch.tensor([3.0, 9.0])))
    student.requires_grad_(False)
    assert torch.equal(predict(student, told, None), predict(unet, batch, None))
    rebuilt = type(student).from_config(student.config)
    rebuilt.load_state_dict(student.state_dict(), strict=True)


def test_guidance_is_followed_in_two_passes(bench):
    batch, unet = _batch(bench), bench.teacher.unet
    empty = without_captions(batch, bench.train)
    scales = torch.tensor([2.0, 5.0])[:, None, None, None]
    with torch.no_grad():
        found = guided_prediction(unet, batch, empty, scales, None)
        said = predict(unet, batch, None)
        unsaid = predict(unet, empty.batch(batch.noisy_latents, batch.timesteps), None)
    torch.testing.assert_close(found, unsaid + scales * (said - unsaid), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(said, unsaid, atol=1e-4)


def test_without_captions_the_size_stays(make_bench, tiny_sdxl_teacher):
    bench = make_bench(tiny_sdxl_teacher)
    batch = _batch(bench)
    empty = without_captions(batch, bench.train)
    text, pooled = bench.train.empty()
    assert isinstance(empty, TextConditions)
    assert torch.equal(empty.encoder_hidden_states, text.expand(2, -1, -1))
    assert torch.equal(empty.added["text_embeds"], pooled.expand(2, -1))
    assert torch.equal(empty.added["time_ids"], batch.added["time_ids"])
