"""The phases of a distillation in their order, and the student that they leave.

`<out>/{kd,few_step,decoder,text_encoder}/` hold what each phase trains, `<out>/trajectories/` the
teacher's pictures where students follow them, `<out>/student/` the whole pipeline. Students of a
suite have phases in common: see `edgekd.jobs.places`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.artifacts import StudentCheckpoint, TeacherCache, TrainedPart, Trajectories
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value
from edgekd.folders import finished
from edgekd.jobs.places import Place, own_places
from edgekd.jobs.plan import Plan
from edgekd.progress import Progress
from edgekd.recipe_distill import DistillSection, LoopSection, PhaseName
from edgekd.training.sharding import launched

if TYPE_CHECKING:
    from edgekd.distill.folder import RunFolder
    from edgekd.distill.sources import Source, Sources
    from edgekd.student.build import DrawingPlan

STUDENT = "student"
# Decides nothing about a result: how often it is saved, who is told, what the other phases do, and
# whether values are computed twice to save memory.
_UNTOLD = {
    *("checkpoint_every", "trackers", "phases", "guidance", "gradient_checkpointing"),
    *("few_step", "decoder", "text_encoder"),
}


def train_student(
    plan: Plan, cache: TeacherCache, out: Path, progress: Progress, place: Place | None = None
) -> StudentCheckpoint:
    """Distil one student; named by its architecture, recipe section and the cache's content.

    Args:
        place: of its phases; None: in `out`.
    """
    trained = train_phases(plan, cache, place or own_places(out), progress)
    return _assemble(plan, trained, out / STUDENT, progress)


def train_phases(
    plan: Plan, cache: TeacherCache, place: Place, progress: Progress
) -> dict[PhaseName, TrainedPart]:
    """Train all phases; processes that were launched together call this together."""
    if "kd" in plan.recipe.distill.phases and "kd" not in plan.phases:
        progress.info("  kd: nothing to learn, the student is a whole copy of its teacher")
    work = _Work(plan, cache, place, progress)
    trained: dict[PhaseName, TrainedPart] = {}
    for phase in plan.phases:
        trained[phase] = _TRAIN[phase](work, trained)
    return trained


@dataclass(frozen=True)
class _Work:
    """What is trained, from what and where."""

    plan: Plan
    cache: TeacherCache
    place: Place
    progress: Progress

    @property
    def section(self) -> DistillSection:
        return self.plan.recipe.distill

    @property
    def source(self) -> Source:
        from edgekd.distill.sources import CachedTeacher

        return CachedTeacher(self.plan.teacher.path, self.cache)

    def folder(self, phase: PhaseName, made_from: Sequence[Any], part: str = "unet") -> RunFolder:
        """A phase's folder, named by what follows from the code, the teacher and these."""
        from edgekd.distill.folder import RunFolder

        key = hash_value([code_key(), self.cache.key, *made_from])
        return RunFolder(self.place(phase, key), key, part, tuple(self.section.trackers))

    def settings(self, loop: LoopSection, *names: str, without: Collection[str] = ()) -> list[Any]:
        """All that decides what a phase of its own section trains.

        Args:
            names: what it takes of the common section beside what all of them do.
            without: fields of its own section that decide nothing.
        """
        common = {"precision", "sample_prompts", "threads", "seed"}
        own = _decisive(loop, {"checkpoint_every", *without})
        return [self.section.model_dump(include={*common, *names}), own]

    @property
    def trajectories(self) -> Trajectories:
        """The teacher's pictures; named by all that they follow from, no student among it."""
        key = trajectories_key(self.section, self.cache)
        return Trajectories(self.place("trajectories", key), key)


def _decisive(loop: LoopSection, without: Collection[str]) -> dict[str, Any]:
    """A loop's settings; of its batches the samples of a step, however they are spread.

    The same samples a step are the same training in any number of micro-batches and processes
    (see `edgekd.training.draws`).
    """
    spread = {"batch_size", "gradient_accumulation"}
    told = loop.model_dump(exclude={*spread, *without})
    step_samples = loop.batch_size * loop.gradient_accumulation * launched()
    return {**told, "step_samples": step_samples}


def trajectories_key(section: DistillSection, cache: TeacherCache) -> str:
    """Hash of all that the teacher's trajectories follow from."""
    drawn = section.few_step.model_dump(
        include={
            "student_steps",
            "teacher_steps",
            "guidance_scale",
            "guidance_stop",
            "trajectories",
        }
    )
    held_out = section.few_step.validation_samples
    return hash_value([code_key(), cache.key, section.precision, section.seed, drawn, held_out])


Trained = Mapping[PhaseName, TrainedPart]


def _kd(work: _Work, trained: Trained) -> TrainedPart:
    from edgekd.distill.loop import train_kd

    arch, section = work.plan.arch, work.section
    made_from = [arch.model_dump(), _decisive(section, _UNTOLD)]
    return train_kd(section, arch, work.source, work.folder("kd", made_from), work.progress)


def _few_step(work: _Work, trained: Trained) -> TrainedPart:
    from edgekd.distill.loop import FewStepPlaces, train_few_step

    section, arch, before = work.section, work.plan.arch, trained.get("kd")
    begun = before.key if before else [arch.model_dump(), section.initialise]
    # A consistency student draws in any number of steps, however many its recipe tells clients.
    free = {"student_steps"} if section.few_step.method == "consistency" else ()
    told = work.settings(section.few_step, "compile", "guidance", "shuffle_window", without=free)
    folder = work.folder("few_step", [begun, told])

    def load(sources: Sources) -> Any:
        from edgekd.diffusion.load import load_model
        from edgekd.distill.lessons import first_student

        if before is None:
            return first_student(section, arch, sources)
        return load_model(before.path.parent, "unet", device=str(sources.teacher.device))

    places = FewStepPlaces(folder, work.trajectories)
    return train_few_step(section, load, work.source, places, work.progress)


def _decoder(work: _Work, trained: Trained) -> TrainedPart:
    from edgekd.distill.loop import train_decoder

    section, drawn = work.section, None
    if "few_step" in trained and section.few_step.method == "trajectory":
        drawn = work.trajectories
    elif section.decoder.generated > 0:
        work.progress.info(
            "  decoder: learns from latents of images alone; drawn ones are there after `few_step` "
            "with `method: trajectory`"
        )
    made_from = [drawn.key if drawn else None, work.settings(section.decoder)]
    folder = work.folder("decoder", made_from, "vae")
    return train_decoder(section, work.source, drawn, folder, work.progress)


def _text_encoder(work: _Work, trained: Trained) -> TrainedPart:
    from edgekd.distill.loop import train_text_encoder

    told = work.settings(work.section.text_encoder, "sample_steps", "guidance_scale")
    folder = work.folder("text_encoder", told, "encoders")
    return train_text_encoder(work.section, work.source, folder, work.progress)


_TRAIN: Mapping[PhaseName, Callable[[_Work, Trained], TrainedPart]] = {
    "kd": _kd,
    "few_step": _few_step,
    "decoder": _decoder,
    "text_encoder": _text_encoder,
}


def _assemble(plan: Plan, trained: Trained, out: Path, progress: Progress) -> StudentCheckpoint:
    """Put the trained components into the teacher's pipeline."""
    parts = [part.key for part in trained.values()]
    told = plan.recipe.distill.few_step.student_steps
    key = hash_value(
        [code_key(), plan.teacher.key, parts, told, plan.target.schedulers, plan.found]
    )
    curves: dict[str, Path] = {phase: part.metrics_path for phase, part in trained.items()}
    result = StudentCheckpoint(out, key, curves)
    if finished(out, key, progress.info) is not None:
        return result
    from edgekd.diffusion.load import load_model
    from edgekd.jobs.cards import mark_weights, write_student_card
    from edgekd.student.build import save_student

    taught: dict[str, Path] = {}
    for part in trained.values():
        taught |= part.components
    unet = taught.get("unet", plan.teacher.path / "unet")
    deployed = _deployment(plan) if "few_step" in trained else None

    def complete(folder: Path) -> None:
        mark_weights(plan, [folder / name for name in taught])
        write_student_card(plan, folder, deployed)
        finish(folder, key)

    student = load_model(unet.parent, "unet")
    save_student(plan.teacher.path, student, out, taught, deployed, complete)
    return result


def _deployment(plan: Plan) -> DrawingPlan:
    """How a few-step student is drawn."""
    from edgekd.diffusion.components import load_scheduler
    from edgekd.distill.deployment import student_drawing

    scheduler = load_scheduler(plan.teacher.path / "scheduler")
    return student_drawing(plan.recipe.distill, scheduler, plan.target.schedulers)
