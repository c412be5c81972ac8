"""The shapes of a plan's students, and how often a picture calls its parts."""

from __future__ import annotations

from edgekd.errors import InputError
from edgekd.jobs.plan import Plan
from edgekd.search.graphs import TeacherConfigs, read_teacher_configs


def configs_of(plan: Plan, guided: bool) -> TeacherConfigs:
    """The shapes of a plan's students."""
    section = plan.recipe.distill
    taught: dict[str, float | None] = {"decoder_layers": section.decoder.layers}
    if "text_encoder" in section.phases:
        taught["text_depth"] = section.text_encoder.depth
    # A few-step student has a sampler of its own, of one call a step.
    drawn = {
        "extra_calls": 0 if "few_step" in section.phases else extra_calls(plan),
        "zero_negative": plan.teacher.zero_empty_prompt,
    }
    return read_teacher_configs(plan.teacher.path, guided).model_copy(update={**taught, **drawn})


def extra_calls(plan: Plan) -> int:
    """Of the U-Net, beyond one a step, in a picture as the suite draws the teacher."""
    from edgekd.runtime.folder import read_scheduler
    from edgekd.runtime.samplers import calls_of

    generation = plan.suite.generation
    try:
        scheduler = read_scheduler(plan.teacher.path, generation.scheduler)
        return calls_of(scheduler, generation.steps) - generation.steps
    except InputError:  # not one of edgekd's runtime: torch's rows alone are drawn with it
        return 0
