"""An honest estimate of what remains of a run.

Each stage's work is expressed in multiply-accumulates (MACs) from the recipe,
the suite and the architectures; short timings of the teacher's U-Net, where
it trains and where it draws, turn them into seconds. What finished stages
really took corrects the stages to come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekd.jobs.pace import macs_per_second
from edgekd.student.cost import TRAIN_TO_FORWARD

if TYPE_CHECKING:
    from edgekd.jobs.plan import Plan
    from edgekd.recipe_distill import (
        DecoderSection,
        DistillSection,
        FewStepSection,
        LoopSection,
        PhaseName,
    )
    from edgekd.student.arch import StudentArch

# Gradient checkpointing does the forward pass again.
CHECKPOINTED = 1.0
# A first guess of what does not follow from MACs, corrected by the pace of finished stages:
# tracing, converting and checking one export, and starting one row of a benchmark.
EXPORT_SECONDS = 12.0
ROW_SECONDS = 8.0
START_SECONDS = 10.0
# A stage's evidence of the pace counts by its length: a short one says little, since what does
# not follow from MACs is most of it. The pace is also bounded: a stage that an earlier call had
# partly done says little too.
PRIOR_SECONDS = 60.0
SLOWEST, FASTEST = 4.0, 0.5


class Forecast:
    """Expected seconds by stage, corrected by what has been measured.

    Args:
        expected_seconds: stage name to expected seconds, in the order of work.
    """

    def __init__(self, expected_seconds: dict[str, float]) -> None:
        self._expected = dict(expected_seconds)
        self._expected_done = 0.0
        self._actual_done = 0.0

    def finish(self, stage: str, actual_seconds: float) -> None:
        """Record that a stage is over; one that was not expected took no time worth a forecast."""
        self._expected_done += self._expected.pop(stage, 0.0)
        self._actual_done += actual_seconds

    def skip(self, stage: str) -> None:
        """Take a stage out that had nothing to do."""
        self._expected.pop(stage, None)

    def remaining_seconds(self) -> float:
        """Expected seconds of the stages not finished, at the pace of those that are."""
        pace = (self._actual_done + PRIOR_SECONDS) / (self._expected_done + PRIOR_SECONDS)
        return min(max(pace, FASTEST), SLOWEST) * sum(self._expected.values())


def distill_macs(section: DistillSection, teacher_macs: float, student_macs: float) -> float:
    """MACs of a distillation run; MACs are those of one forward pass of one sample."""
    from edgekd.distill.terms.registry import needs_teacher

    taught = needs_teacher(section.losses)
    per_sample = _trained(section) * student_macs + (teacher_macs if taught else 0.0)
    return section.samples * per_sample


def checking_macs(
    section: DistillSection, prompts: int, teacher_macs: float, student_macs: float
) -> float:
    """MACs of a distillation run's validations and sample sheets; the teacher has a part in each.

    Args:
        prompts: pictures on a sheet.
        teacher_macs: of one forward pass of one sample; so are `student_macs`.
    """
    validations = 1 + -(-section.steps // section.validate_every)  # the first is before any step
    checked = section.validation_samples * (teacher_macs + validations * student_macs)
    return checked + sheet_macs(section, section, prompts, teacher_macs, student_macs)


def sheet_macs(
    section: DistillSection, loop: LoopSection, prompts: int, teacher_macs: float, macs: float
) -> float:
    """MACs of a phase's sample sheets, the teacher's row once and the student's in each.

    Args:
        loop: of the phase.
        macs: of the student's U-Net; others as in `checking_macs`.
    """
    sheets = 1 + (loop.steps // loop.sample_every if loop.sample_every else 0)
    passes = prompts * section.sample_steps * (2 if section.guidance_scale > 1 else 1)
    return passes * (teacher_macs + sheets * macs)


def few_step_macs(section: DistillSection, teacher_macs: float, student_macs: float) -> float:
    """MACs of the phase `few_step`; MACs are those of one forward pass of one sample."""
    macs_by_method = {
        "trajectory": _trajectory_macs,
        "consistency": _consistency_macs,
        "distribution": _distribution_macs,
    }
    settings = section.few_step
    student = (2 if section.kept_guidance > 1 else 1) * student_macs
    return macs_by_method[settings.method](settings, teacher_macs, student, _trained(section))


@dataclass(frozen=True)
class Passes:
    """What one pass costs.

    Attributes:
        teacher, student: MACs of a forward pass of a U-Net, of one sample.
        vae_config: the teacher's.
        latent_size: side of the latents.
        text_configs: of the teacher's text encoders.
    """

    teacher: float
    student: float
    vae_config: Mapping[str, Any]
    latent_size: int
    text_configs: Sequence[Mapping[str, Any]]


def phase_macs(section: DistillSection, phase: PhaseName, passes: Passes) -> float:
    """MACs of one phase with all that it draws and validates."""
    from edgekd.distill.sampling import DEFAULT_PROMPTS

    if phase == "decoder":
        return decoder_macs(section.decoder, passes.vae_config, passes.latent_size)
    if phase == "few_step":
        return few_step_macs(section, passes.teacher, passes.student)
    prompts = len(section.sample_prompts) or DEFAULT_PROMPTS
    if phase == "text_encoder":
        from edgekd.jobs.text_work import text_encoder_macs

        loop, macs = section.text_encoder, passes.teacher  # its own U-Net draws both rows
        sheets = sheet_macs(section, loop, prompts, macs, macs)
        return sheets + text_encoder_macs(loop, passes.text_configs)
    return distill_macs(section, passes.teacher, passes.student) + checking_macs(
        section, prompts, passes.teacher, passes.student
    )


def _trained(section: DistillSection) -> float:
    """Forward passes that a training pass costs."""
    return TRAIN_TO_FORWARD + (CHECKPOINTED if section.gradient_checkpointing else 0.0)


def decoder_macs(section: DecoderSection, vae_config: Mapping[str, Any], latent_size: int) -> float:
    """MACs of the phase `decoder`, those of both decoders.

    Raises:
        InputError: see `edgekd.student.decoder.student_vae_config`.
    """
    from edgekd.student.cost import decoder_cost
    from edgekd.student.decoder import student_vae_config

    size = min(section.crop, latent_size)
    configs = vae_config, student_vae_config(section, vae_config)
    teacher, narrow = (decoder_cost(config, (size, size)).macs for config in configs)
    validations = 1 + -(-section.steps // section.validate_every)
    held_out = 2 * validations * section.validation_samples
    return section.samples * (teacher + TRAIN_TO_FORWARD * narrow) + held_out * (teacher + narrow)


def _trajectory_macs(
    section: FewStepSection, teacher: float, student: float, passes: float
) -> float:
    """The teacher's trajectories, and an update of the student for each of its steps."""
    drawn = sum(section.drawn.values()) * section.teacher_passes * teacher
    trained = section.samples * passes
    updates = section.student_steps * student * (trained + _validated(section))
    return drawn + updates


def _consistency_macs(
    section: FewStepSection, teacher: float, student: float, passes: float
) -> float:
    """The student and its target on either side of a guided step of the teacher."""
    trained = section.samples * (2 * teacher + (passes + 1) * student)
    held_out = section.validation_samples * section.teacher_passes * teacher
    return trained + held_out + _validated(section) * student


def _distribution_macs(
    section: FewStepSection, teacher: float, student: float, passes: float
) -> float:
    """Pictures of one step up to all of them; the fake score has the teacher's size."""
    drawn = (section.student_steps + 1) / 2 * student
    compared = drawn + (passes - 1) * student + 3 * teacher
    fake = section.fake_updates * (drawn + passes * teacher)
    trained = section.samples * (compared + fake)
    return trained + _validated(section) * (section.student_steps * student + 2 * teacher)


def _validated(section: FewStepSection) -> int:
    """Samples of all validations; the first is before any step."""
    return section.validation_samples * (1 + -(-section.steps // section.validate_every))


def forecast(plan: Plan) -> Forecast:
    """Expected seconds of the stages after `prepare`, at this machine's measured pace."""
    from edgekd.diffusion.load import load_model
    from edgekd.reading import read_json
    from edgekd.student.cost import unet_cost
    from edgekd.student.resolve import full
    from edgekd.student.text_depth import read_text_configs
    from edgekd.training.cpu import all_cores
    from edgekd.training.device import own_device
    from edgekd.training.precision import autocast_dtype
    from edgekd.training.sharding import launched

    recipe, teacher, suite = plan.recipe, plan.teacher, plan.suite
    config = read_json(teacher.path / "unet" / "config.json")
    whole = full(config)

    def macs(arch: StudentArch, size: int) -> float:
        return float(unet_cost(arch, config, (size, size), text_tokens=77).macs)

    native, batch_size = macs(whole, teacher.latent_size), recipe.distill.batch_size
    device = own_device()
    gpu = device.type != "cpu"
    # Pictures for the benchmark are drawn by all cores of the CPU everywhere.
    with all_cores():
        pace = macs_per_second(load_model(teacher.path, "unet"), native, 1 if gpu else batch_size)
    training_pace = pace
    if gpu:
        unet = load_model(teacher.path, "unet", device=str(device))
        autocast = autocast_dtype(recipe.distill.precision, device)
        training_pace = macs_per_second(unet, native, batch_size, autocast=autocast)
    elif launched() > 1:
        training_pace = macs_per_second(load_model(teacher.path, "unet"), native, batch_size)
    size = recipe.data.side // teacher.vae_scale_factor
    teacher_macs, student_macs = macs(whole, size), macs(plan.arch, size)
    precisions = len(plan.precisions)
    section, samples = recipe.distill, suite.quality.samples
    passes = suite.generation.steps * (2 if suite.generation.guided else 1)
    taught = passes
    if "few_step" in plan.phases:
        taught = section.few_step.student_steps * (2 if section.kept_guidance > 1 else 1)
    drawing = samples * (2 * passes * teacher_macs + (1 + precisions) * taught * student_macs)
    vae = read_json(teacher.path / "vae" / "config.json")
    costs = Passes(teacher_macs, student_macs, vae, size, read_text_configs(teacher.path))
    training = sum(phase_macs(section, phase, costs) for phase in plan.phases)
    search = {"search": recipe.search.seconds} if recipe.student.searched else {}
    return Forecast(
        {
            **search,
            "distill": START_SECONDS * len(plan.phases) + training / training_pace,
            "export": EXPORT_SECONDS * (1 + precisions),
            "benchmark": drawing / pace + ROW_SECONDS * (3 + precisions),
        }
    )
