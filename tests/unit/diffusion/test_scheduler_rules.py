import pytest

from edgekd.diffusion.scheduler_rules import check_steps
from edgekd.errors import InputError
from edgekd.libraries import diffusers


@pytest.mark.parametrize(
    ("name", "options", "steps", "fault"),
    [
        ("PNDMScheduler", {}, 3, "ValueError"),
        ("DDIMScheduler", {}, 1001, "ValueError"),
        ("LCMScheduler", {}, 51, "ValueError"),
        ("UniPCMultistepScheduler", {"lower_order_final": False}, 4, "NaN or infinity"),
        ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading"}, 1000, "IndexError"),
    ],
)
def test_steps_that_a_scheduler_does_not_take(name, options, steps, fault):
    scheduler = getattr(diffusers, name)(**options)
    with pytest.raises(InputError, match=f"as many as the {name} takes, but got {steps} .{fault}"):
        check_steps(scheduler, steps)
    assert scheduler.num_inference_steps is None  # tried on a copy


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "HeunDiscreteScheduler"])
def test_steps_that_a_scheduler_takes(name, steps):
    check_steps(getattr(diffusers, name)(), steps)
