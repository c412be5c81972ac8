"""The phases of a distillation in their order, and the student that they leave.

`<out>/{kd,few_step,decoder}/` hold what each phase trains, `<out>/trajectories/` the teacher's
pictures where students follow them, `<out>/student/` the whole pipeline.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import StudentCheckpoint, TeacherCache, TrainedPart, Trajectories
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.folders import finished
from edgekd.jobs.plan import Plan
from edgekd.progress import Progress
from edgekd.recipe_distill import DistillSection, LoopSection

if TYPE_CHECKING:
    from edgekd.distill.sources import Sources
    from edgekd.student.build import Deployment

STUDENT = "student"
# Decides nothing about a result: how often it is saved, and what the other phases do.
_UNTOLD = {"checkpoint_every", "phases", "few_step", "decoder"}


def train_student(
    plan: Plan, cache: TeacherCache, out: Path, progress: Progress
) -> StudentCheckpoint:
    """Distil one student; named by its architecture, recipe section and the cache's content."""
    trained = train_phases(plan, cache, out, progress)
    return _assemble(plan, trained, out / STUDENT, progress)


def train_phases(
    plan: Plan, cache: TeacherCache, out: Path, progress: Progress
) -> dict[str, TrainedPart]:
    """Train all phases; processes that were launched together call this together."""
    from edgekd.distill.sources import CachedTeacher

    section, source = plan.recipe.distill, CachedTeacher(plan.teacher.path, cache)
    trained: dict[str, TrainedPart] = {}
    if "kd" in plan.phases:
        trained["kd"] = _kd(plan, cache, source, out, progress)
    elif "kd" in section.phases:
        progress.info("  kd: nothing to learn, the student is a whole copy of its teacher")
    if "few_step" in plan.phases:
        trained["few_step"] = _few_step(plan, cache, source, trained.get("kd"), out, progress)
    if "decoder" in plan.phases:
        trained["decoder"] = _decoder(plan, cache, source, out, progress)
    return trained


def _kd(plan: Plan, cache: TeacherCache, source: Any, out: Path, progress: Progress) -> TrainedPart:
    from edgekd.distill.folder import RunFolder
    from edgekd.distill.loop import train_kd

    section = plan.recipe.distill
    key = hash_value([*_made_from(plan, cache), section.model_dump(exclude=_UNTOLD)])
    return train_kd(section, plan.arch, source, RunFolder(out / "kd", key), progress)


def _few_step(
    plan: Plan,
    cache: TeacherCache,
    source: Any,
    before: TrainedPart | None,
    out: Path,
    progress: Progress,
) -> TrainedPart:
    from edgekd.distill.folder import RunFolder
    from edgekd.distill.loop import FewStepPlaces, new_student, train_few_step

    section = plan.recipe.distill
    begun = before.key if before else [plan.arch.model_dump(), section.initialise]
    settings = _settings(section, section.few_step)
    key = hash_value([*_made_from(plan, cache), begun, settings])
    places = FewStepPlaces(
        RunFolder(out / "few_step", key), trajectories(plan, cache, out / "trajectories")
    )

    def load(sources: Sources) -> Any:
        from edgekd.diffusion.load import load_model

        if before is None:
            return new_student(section, plan.arch, sources)
        return load_model(before.path.parent, "unet", device=str(sources.teacher.device))

    return train_few_step(section, load, source, places, progress)


def _decoder(
    plan: Plan, cache: TeacherCache, source: Any, out: Path, progress: Progress
) -> TrainedPart:
    from edgekd.distill.folder import RunFolder
    from edgekd.distill.loop import train_decoder

    section, drawn = plan.recipe.distill, None
    if "few_step" in plan.phases and section.few_step.method == "trajectory":
        drawn = trajectories(plan, cache, out / "trajectories")
    settings = _settings(section, section.decoder)
    key = hash_value([code_key(), cache.key, drawn.key if drawn else None, settings])
    return train_decoder(section, source, drawn, RunFolder(out / "decoder", key, "vae"), progress)


def trajectories(plan: Plan, cache: TeacherCache, out: Path) -> Trajectories:
    """Where the teacher's pictures are; named by all that they follow from, no student among it."""
    section = plan.recipe.distill
    drawn = section.few_step.model_dump(
        include={"student_steps", "teacher_steps", "guidance_scale", "trajectories"}
    )
    held_out = section.few_step.validation_samples
    made_from = [code_key(), cache.key, section.precision, section.seed, drawn, held_out]
    return Trajectories(out, hash_value(made_from))


def _made_from(plan: Plan, cache: TeacherCache) -> list[Any]:
    return [code_key(), plan.arch.model_dump(), cache.key]


def _settings(section: DistillSection, loop: LoopSection) -> list[Any]:
    """All that decides what a phase of its own section trains."""
    common = {"gradient_checkpointing", "precision", "sample_prompts", "threads", "seed"}
    return [section.model_dump(include=common), loop.model_dump(exclude={"checkpoint_every"})]


def _assemble(
    plan: Plan, trained: dict[str, TrainedPart], out: Path, progress: Progress
) -> StudentCheckpoint:
    """Put the trained components into the teacher's pipeline."""
    parts = [part.key for part in trained.values()]
    key = hash_value([code_key(), plan.teacher.key, parts, plan.target.schedulers])
    curves = {name: part.metrics_path for name, part in trained.items()}
    result = StudentCheckpoint(out, key, curves)
    if finished(out, key, progress.info) is not None:
        return result
    from edgekd.diffusion.load import load_model
    from edgekd.student.build import save_student

    unets = [part.path.parent for part in trained.values() if part.path.name == "unet"]
    vae = trained["decoder"].path if "decoder" in trained else None
    save_student(
        plan.teacher.path,
        load_model([plan.teacher.path, *unets][-1], "unet"),
        out,
        vae,
        deployed=_deployment(plan) if "few_step" in trained else None,
    )
    finish(out, key)
    return result


def _deployment(plan: Plan) -> Deployment:
    """How a few-step student is drawn."""
    from edgekd.diffusion.components import load_scheduler
    from edgekd.distill.deployment import student_session
    from edgekd.student.build import Deployment

    teacher_scheduler = load_scheduler(plan.teacher.path / "scheduler")
    known = plan.target.schedulers
    said = student_session(plan.recipe.distill.few_step, teacher_scheduler, known)
    return Deployment(said.scheduler, said.steps, said.guidance_scale)
