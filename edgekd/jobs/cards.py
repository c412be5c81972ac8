"""What the main job writes on the cards of a student and of the exports, and into its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd import __version__
from edgekd.files import hash_value, resolved
from edgekd.jobs.plan import Plan
from edgekd.model_card import (
    CARD_FILE,
    Card,
    CardFigure,
    MeasuredModel,
    add_figures,
    licence_fields,
    model_name,
    write_card,
)
from edgekd.progress import counted
from edgekd.recipe import Recipe
from edgekd.resources import STARTER_DATA, STARTER_NAME, STARTER_TEACHER
from edgekd.student.text_depth import pruned_configs, read_text_configs

if TYPE_CHECKING:
    from edgekd.benchmark.cases import Case
    from edgekd.report.schema import Report
    from edgekd.student.build import DrawingPlan

_LOAD = """```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
pipeline({call}).images[0].save("picture.png")
```"""


def recipe_hash(recipe: Recipe) -> str:
    """Hash of what a recipe says of the data, the student and its training."""
    chosen = recipe.model_dump(mode="json", include={"data", "student", "distill"})
    # They change how fast a student is made, not which.
    chosen["data"].pop("workers")
    chosen["distill"].pop("checkpoint_every")
    return hash_value(chosen)


def datasets(recipe: Recipe) -> list[str]:
    """Names of the data that a student learns from."""
    names = (
        source if source == STARTER_NAME else model_name(Path(source))
        for source in recipe.data.sources
    )
    return [STARTER_DATA if name == STARTER_NAME else name for name in names]


def origins(plan: Plan) -> dict[str, str]:
    """edgekd's own facts of a student: in its card, and in its weights."""
    return {"recipe": recipe_hash(plan.recipe), "teacher": plan.teacher.key}


def write_student_card(plan: Plan, out: Path, deployed: DrawingPlan | None) -> None:
    """The card of a student that nothing was measured of yet."""
    recipe = plan.recipe
    starter = recipe.teacher.path == STARTER_NAME
    teacher = STARTER_TEACHER if starter else model_name(Path(recipe.teacher.path))
    write_card(
        out,
        Card(
            name=f"{recipe.name}-student",
            base_model=teacher,
            text=_text(plan, teacher, deployed),
            licence=licence_fields(plan.teacher.path),
            datasets=datasets(recipe),
            tags=("distillation", "stable-diffusion"),
            parameters={}
            if deployed is None
            else {
                "num_inference_steps": deployed.steps,
                "guidance_scale": deployed.guidance_scale,
            },
            made=origins(plan),
        ),
    )


def _text(plan: Plan, teacher: str, deployed: DrawingPlan | None) -> str:
    made = origins(plan)
    parts = [
        f"A student of `{teacher}`, distilled by edgekd {__version__}. Recipe `{plan.recipe.name}` "
        f"with hash `{made['recipe']}`; hash of the teacher's content `{made['teacher']}`. Both "
        "hashes are in the metadata of its weights too.",
        plan.found,
        "## How to use it",
    ]
    call = "prompt"
    if deployed is not None:
        steps, scale = deployed.steps, f"{deployed.guidance_scale:g}"
        parts.append(
            f"Draw with its own scheduler in {counted(steps, 'step')} and `guidance_scale` "
            f"{scale}, as it was trained: other numbers give worse pictures."
        )
        call = f"prompt, num_inference_steps={steps}, guidance_scale={scale}"
    if "text_encoder" in plan.phases:
        configs = read_text_configs(plan.teacher.path)
        pruned = pruned_configs(configs, plan.recipe.distill.text_encoder.depth)
        kept = (
            f"{few['num_hidden_layers']} of {whole['num_hidden_layers']}"
            for few, whole in zip(pruned, configs, strict=True)
        )
        parts.append(f"Layers of its text encoder that were kept: {', '.join(kept)}.")
    parts.append(_LOAD.format(call=call))
    return "\n\n".join(part for part in parts if part)


def mark_weights(plan: Plan, folders: Iterable[Path]) -> None:
    """Say in the weights themselves what they were made from and by."""
    from edgekd.diffusion.weights import add_metadata

    names = {f"edgekd.{name}": value for name, value in origins(plan).items()}
    for folder in folders:
        for file in sorted(folder.glob("*.safetensors")):
            add_metadata(file, {"edgekd.version": __version__, **names})


def measure_cards(plan: Plan, cases: Iterable[Case], report: Report) -> None:
    """Put a report's figures on the cards of the folders that its rows are of and that this run
    has made, the teacher's aside; one that draws in several ways has those of its own way."""
    rows = {row.name: row for row in report.rows}
    dataset, done = ", ".join(datasets(plan.recipe)), set[Path]()
    for case in cases:
        mine = resolved(case.path).is_relative_to(resolved(plan.run))
        if not mine or case.path in {plan.teacher.path, *done}:
            continue
        if not (case.path / CARD_FILE).is_file():
            continue
        done.add(case.path)
        row = rows[case.name]
        # A card has no room to say that other work held the cores.
        shown = (one for one in report.descriptors if one.source != "latency" or not row.busy)
        values = [(one, row.value(one.name)) for one in shown]
        figures = tuple(
            CardFigure(one.name, one.full_name or one.title, value, one.unit, case.name)
            for one, value in values
            if value is not None
        )
        if figures:
            measured = MeasuredModel(dataset, report.data.key, report.data.prompts, figures)
            add_figures(case.path, measured)
