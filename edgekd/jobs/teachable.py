"""What a recipe asks of its phases, checked against the teacher before hours of training."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from edgekd.data.buckets import training_sizes
from edgekd.errors import InputError
from edgekd.recipe import Recipe
from edgekd.recipe_distill import PhaseName
from edgekd.recipe_losses import LossSection

if TYPE_CHECKING:
    from edgekd.diffusion.validate import TeacherInfo


def check_phases(
    recipe: Recipe, teacher: TeacherInfo, scheduler: Any, phases: Collection[PhaseName]
) -> None:
    """Refuse settings that a phase could not be trained with.

    Args:
        recipe: with the teacher's resolution, see `edgekd.jobs.plan.at_resolution`.
        scheduler: the teacher's.

    Raises:
        InputError: see `check_steps`, `check_hints`, `check_groups`; or processes that train
            together on terms inside the U-Net alone.
    """
    from edgekd.distill.solver import check_steps

    section = recipe.distill
    if "kd" in phases:
        _check_losses(section.losses, recipe, teacher)
    if "few_step" in phases:
        few_step = section.few_step
        steps = recipe.search.steps if recipe.student.searched else [few_step.student_steps]
        check_steps(few_step, steps, int(scheduler.config.num_train_timesteps))


def _check_losses(losses: LossSection, recipe: Recipe, teacher: TeacherInfo) -> None:
    from edgekd.distill.terms.output_lift import check_groups
    from edgekd.distill.terms.registry import check_hints, has_prediction
    from edgekd.training.sharding import launched

    check_hints(losses)
    if losses.output_lift:
        for size in training_sizes(recipe.data):
            width, height = (side // teacher.vae_scale_factor for side in size)
            check_groups(teacher.latent_channels * width * height, losses.lift_groups)
    if launched() > 1 and not has_prediction(losses):
        # The last layers would get no gradient, which DDP and FSDP wait for.
        raise InputError(
            "`distill.losses` must have a term of the prediction where several processes train",
            f"{', '.join(losses.weights)} in {launched()} processes",
        )
