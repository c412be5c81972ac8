"""Students that have phases in common, trained in earnest."""

from dataclasses import replace

from edgekd.jobs.phases import train_student
from edgekd.jobs.places import shared_places
from edgekd.jobs.plan import make_plan
from edgekd.jobs.prepare import prepare_data
from edgekd.progress import Silent
from edgekd.recipe import Recipe
from edgekd.run_folder import open_run
from edgekd.target import load_target


def test_what_two_students_have_in_common_is_trained_once(tiny_recipe, tmp_path):
    run = tmp_path / "run"
    plan = make_plan(Recipe.model_validate(tiny_recipe), load_target("onnx"), run)
    section = plan.recipe.distill.few_step.model_copy(update={"steps": 4})
    longer = plan.recipe.distill.model_copy(update={"few_step": section})
    another = replace(plan, recipe=plan.recipe.model_copy(update={"distill": longer}))
    place = shared_places(run / "shared")
    with open_run(run):
        _, cache = prepare_data(plan.recipe, plan.teacher.path, run, Silent())
        first = train_student(plan, cache, run / "first", Silent(), place)
        second = train_student(another, cache, run / "second", Silent(), place)
    made = sorted(path.name.split("-")[0] for path in (run / "shared").iterdir())
    assert made == ["few_step", "few_step", "kd", "trajectories"]
    assert first.curves["kd"] == second.curves["kd"]
    assert first.key != second.key
    assert all(
        (one.path / "unet" / "diffusion_pytorch_model.safetensors").is_file()
        for one in (first, second)
    )
