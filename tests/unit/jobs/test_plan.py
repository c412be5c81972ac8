import pytest

from edgekd.benchmark.random_pipeline import random_info
from edgekd.errors import InputError
from edgekd.jobs.plan import at_resolution
from edgekd.recipe import load_recipe
from edgekd.resources import find_yaml

# `feature` is the only term that is on.
ALONE = ("distill.losses.task=0", "distill.losses.output=0")


def test_buckets_are_sizes_that_the_teacher_can_halve():
    def step(side, *assignments):
        changes = [f"data.resolution={side}", *assignments]
        recipe = load_recipe(find_yaml("configs", "sd15-bk-tiny"), changes)
        return at_resolution(recipe, random_info("sd15")).data.bucket_step

    buckets = "data.aspect_buckets=true"
    assert step(512) is None
    assert step(512, buckets) == 64
    for side, other in ((512, 32), (520, 40)):
        with pytest.raises(InputError, match="must be a multiple of 64"):
            step(side, buckets, f"data.bucket_step={other}")


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["distill.few_step.student_steps=3"], "must divide .* 1000, but got 3"),
        (["distill.few_step.teacher_steps=1001"], "teacher_steps <= 1000"),
        (["distill.losses.hints_until=0.5", *ALONE], "leave a term of the prediction.* feature"),
        (["distill.losses.output_lift=1", "distill.losses.lift_groups=7"], "must divide .* got 7"),
    ],
)
def test_what_a_phase_cannot_be_trained_with_is_refused_by_the_plan(planned, assignments, said):
    """And not after the phases before it: `kd` may take days."""
    with pytest.raises(InputError, match=said):
        planned("student.preset=bk-sdm-small", *assignments)


def test_only_what_is_trained_is_checked(planned):
    consistency = "distill.few_step.method=consistency"
    assert planned(consistency, "distill.few_step.student_steps=3").phases
    with pytest.raises(InputError, match=r"must divide .* 1000, but got 3"):
        planned("search.steps=[2,3]")
    # A named student is not searched.
    assert planned("search.steps=[2,3]", "student.preset=full").phases


def test_terms_inside_the_unet_alone_are_for_one_process(planned, monkeypatch):
    small = ("student.preset=bk-sdm-small", *ALONE)
    assert planned(*small).phases
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"several processes train, but got feature in 2"):
        planned(*small)
    assert planned(*small, "distill.phases=[few_step]").phases
