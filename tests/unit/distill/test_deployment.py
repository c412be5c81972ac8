import pytest
from pydantic import ValidationError

from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.distill.deployment import student_drawing
from edgekd.recipe_distill import DistillSection, FewStepSection


@pytest.mark.parametrize(
    ("method", "sampler", "scale"),
    [
        ("trajectory", "DDIMScheduler", 1.0),
        ("consistency", "LCMScheduler", 6.0),
        ("distribution", "LCMScheduler", 1.0),
    ],
)
def test_each_method_has_its_sampler(method, sampler, scale):
    settings = FewStepSection(method=method, student_steps=2, guidance_scale=6.0)
    session = student_drawing(DistillSection(few_step=settings), build_scheduler())
    assert type(session.scheduler).__name__ == sampler
    assert (session.steps, session.guidance_scale) == (2, scale)


@pytest.mark.parametrize(
    ("known", "sampler"),
    [
        (["DDIMScheduler", "DPMSolverMultistepScheduler"], "DDIMScheduler"),
        (["PNDMScheduler", "DPMSolverMultistepScheduler"], "DPMSolverMultistepScheduler"),
        (["PNDMScheduler"], "DDIMScheduler"),
    ],
)
def test_clients_without_ddim_draw_with_its_twin(known, sampler):
    session = student_drawing(DistillSection(), build_scheduler(), known)
    assert type(session.scheduler).__name__ == sampler


def test_guidance_is_kept_where_the_student_was_taught_with_it():
    section = DistillSection.model_validate({"guidance": "keep", "few_step": {"guidance_scale": 5}})
    assert student_drawing(section, build_scheduler()).guidance_scale == 5
    with pytest.raises(ValidationError, match=r"needs `few_step\.method"):
        DistillSection.model_validate({"guidance": "keep", "few_step": {"method": "consistency"}})


def test_a_consistency_student_is_told_a_scale_that_it_learned():
    with pytest.raises(ValidationError, match="must lie in `guidance_range`"):
        FewStepSection(method="consistency", guidance_scale=2.0)
    assert FewStepSection(method="distribution", guidance_scale=2.0).guidance_scale == 2.0
    with pytest.raises(ValidationError, match=r"1 <= guidance_range\[0\]"):
        FewStepSection(guidance_range=(5.0, 4.0))
