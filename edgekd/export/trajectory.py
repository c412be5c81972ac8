"""The drawing sessions that parity is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgekd.diffusion.scheduler_rules import fewest_steps
from edgekd.errors import InputError
from edgekd.export.outline import other_size
from edgekd.export.protocol import Generation
from edgekd.export.record import Session, Trajectory, record_denoising_inputs

# A denoising trajectory from pure noise to the picture in this many steps: every noise level is
# there, and a large model is not run more often than that.
PARITY_STEPS = 8


def parity_session(prompts: Sequence[str], generation: Generation, seed: int = 0) -> Session:
    steps, scale = min(generation.steps, PARITY_STEPS), generation.guidance_scale
    return Session(prompts=tuple(prompts), steps=steps, guidance_scale=scale, seed=seed)


def record_for_parity(
    pipeline: Any, prompts: Sequence[str], generation: Generation, other_shapes: bool = False
) -> Trajectory:
    """The trajectory that parity is measured on.

    Args:
        other_shapes: record a session at another size and batch too: smaller and not square,
            so that a large model is not run for long, and an odd batch.

    Raises:
        InputError: no prompts.
    """
    if not prompts:
        raise InputError("parity needs at least one prompt", "none")
    session = parity_session(prompts, generation)
    trajectory = record_denoising_inputs(pipeline, session)
    if not other_shapes:
        return trajectory
    # Without guidance, so that the U-Net's batch is the odd number itself.
    other = Session(
        prompts=session.prompts[:1],
        steps=fewest_steps(pipeline.scheduler, session.steps, least=2),
        guidance_scale=1.0,
        size=other_size(pipeline),
        images_per_prompt=3,
    )
    return replace(trajectory, other=record_denoising_inputs(pipeline, other))
