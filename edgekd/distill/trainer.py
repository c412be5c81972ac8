"""One student in training: a step, and what is due after it.

A step is a pure function of the weights, the optimiser's state and the step number (see
`edgekd.training.draws`), so a killed run continues from its last checkpoint with the same
numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.distill.batches import Batches
from edgekd.distill.folder import BOARD, RunFolder
from edgekd.distill.objective import Nets, Objective, total
from edgekd.distill.projections import add_projections
from edgekd.distill.sampling import SampleSheet, choose_prompts, save_png
from edgekd.distill.sources import Sources
from edgekd.distill.validation import Validation
from edgekd.errors import GateError, InputError
from edgekd.files import writing
from edgekd.libraries import diffusers
from edgekd.progress import Progress
from edgekd.recipe import DistillSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student
from edgekd.student.config import to_unet_config
from edgekd.training.checkpoint import (
    Checkpoint,
    load_optimizers,
    load_weights,
    optimizer_tensors,
)
from edgekd.training.draws import BatchPlan, step_positions
from edgekd.training.ema import Ema
from edgekd.training.log import MetricsLog
from edgekd.training.precision import autocast_dtype, training_attention
from edgekd.training.schedule import RateSchedule

# A cosine schedule ends here rather than at 0, so that the last steps are not without effect.
FINAL_RATE = 0.01


def rate_schedule(section: DistillSection) -> RateSchedule:
    """Linear warm-up, then constant or a cosine whose end is the last step."""
    warmup = section.warmup_steps
    fall = 0 if section.lr_schedule == "constant" else max(1, section.steps - warmup - 1)
    return RateSchedule(section.learning_rate, warmup, warmup, fall, FINAL_RATE)


def new_student(section: DistillSection, arch: StudentArch, teacher_unet: Any) -> Any:
    """The student with its first weights: the teacher's, or random ones of the recipe's seed."""
    if section.initialise == "teacher":
        student = build_student(teacher_unet, arch)
    else:
        config = to_unet_config(arch, dict(teacher_unet.config))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(section.seed)
            student = diffusers.UNet2DConditionModel.from_config(config)
        student.to(teacher_unet.device)
    add_projections(student, arch, teacher_unet, section.losses)
    if section.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    # Evaluation mode: a U-Net has no layer that must train differently, and the dropout that
    # a config may ask for would draw from the global generator.
    return student.requires_grad_(True).eval()


class Trainer:
    """A student in training.

    Args:
        arch: explicit student architecture.
        accelerator: of accelerate, without mixed precision.

    Raises:
        InputError: see `distill`.
    """

    def __init__(
        self,
        section: DistillSection,
        arch: StudentArch,
        sources: Sources,
        folder: RunFolder,
        accelerator: Any,
    ) -> None:
        teacher, train, validation = sources.teacher, sources.train, sources.validation
        for name, split in (("training", train), ("validation", validation)):
            if len(split) == 0:
                raise InputError(f"the {name} split must have samples", "0")
        self.section, self.accelerator, self.folder = section, accelerator, folder
        autocast = autocast_dtype(section.precision, accelerator.device)
        schedule = read_schedule(teacher.scheduler)
        self.batches = Batches(train, teacher.info, teacher.vae.config, schedule)
        held_out = Batches(validation, teacher.info, teacher.vae.config, schedule)
        fixed = held_out.validation(section.validation_samples, section.batch_size)
        self.validation = Validation(fixed, teacher.unet, autocast)
        latent_size = train.batch(torch.tensor([0])).mean.shape[-1]
        self.sheet = SampleSheet(teacher, section, choose_prompts(section, validation), latent_size)
        self.plan = BatchPlan(
            section.batch_size, section.gradient_accumulation, accelerator.num_processes
        )
        self.student = new_student(section, arch, teacher.unet)
        self.ema = Ema(self.student, section.ema_decay)
        self._attention = [
            training_attention(unet, accelerator.device, autocast)
            for unet in (teacher.unet, self.student, self.ema.model)
        ]
        self._rates = rate_schedule(section)
        self._optimizer = torch.optim.AdamW(
            self.student.parameters(),
            lr=section.learning_rate,
            weight_decay=section.weight_decay,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self._wrapped: nn.Module = accelerator.prepare_model(self.student)
        self._objective = Objective(
            Nets(self._wrapped, teacher.unet, arch),
            section.losses,
            schedule.to(accelerator.device),
            autocast,
        )
        self._objective.calibrate(fixed)
        self._last: Checkpoint | None = None

    def run(self, progress: Progress) -> None:
        """Train from the last checkpoint, or from the start, to the last step."""
        section, main = self.section, self.accelerator.is_main_process
        self.accelerator.wait_for_everyone()
        step = self._restore(progress)
        self.accelerator.wait_for_everyone()
        with contextlib.ExitStack() as stack:
            log = None
            if main:
                if not self._last:
                    self.folder.clear()
                kept = step if self._last else -1
                board = self.folder.path / BOARD
                log = stack.enter_context(MetricsLog(self.folder.path, kept, board))
            stack.enter_context(self._objective)
            for attention in self._attention:
                stack.enter_context(attention)
            advance = stack.enter_context(progress.track("distill", section.steps))
            advance(step, resumed=True)
            if log and not self._last:
                self._validate(0, log, progress)
            while step < section.steps:
                row = self._step(step)
                step += 1
                advance(1)
                if log:
                    self._after_step(step, row, log, progress)
            if log and not self._sheet_path(step).is_file():
                self._draw(step, log)

    def _restore(self, progress: Progress) -> int:
        """Load the last checkpoint, if there is one. Returns the finished steps."""
        self._last = self.folder.checkpoints.latest(progress)
        if self._last is None:
            return 0
        parameters = dict(self.student.named_parameters())
        load_weights(parameters, self._last.load("student"))
        load_weights(dict(self.ema.model.named_parameters()), self._last.load("average"))
        load_optimizers(parameters, self._last.load("optimizer"), self._optimizer)
        progress.info(f"  distill: continuing at step {self._last.step} of {self.section.steps}")
        return self._last.step

    def _save(self, step: int) -> None:
        parameters = dict(self.student.named_parameters())
        self._last = self.folder.checkpoints.save(
            step,
            {
                "student": parameters,
                "average": dict(self.ema.model.named_parameters()),
                "optimizer": optimizer_tensors(parameters, self._optimizer),
            },
        )

    def _step(self, step: int) -> dict[str, float]:
        """Optimiser step `step` (from 0). Returns its row of `metrics.jsonl`."""
        section, started = self.section, time.monotonic()
        self._optimizer.zero_grad(set_to_none=True)
        weights = self._objective.weights_at(step / section.steps)
        sums = torch.zeros(len(weights), device=self.accelerator.device)
        for micro in range(self.plan.accumulation):
            last = micro == self.plan.accumulation - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self._wrapped):
                terms = self._micro_batch(step, micro)
            sums += torch.stack([terms[name] for name in weights]) / self.plan.accumulation
        values = self.accelerator.reduce(sums, "mean").tolist()
        raw = dict(zip(weights, values, strict=True))
        norm = float(nn.utils.clip_grad_norm_(self.student.parameters(), section.max_grad_norm))
        self._check_finite(step + 1, {**raw, "gradient": norm})
        rate = self._rates.at(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self.ema.update(self.student, step)
        return {
            "step": step + 1,
            "loss": total(raw, weights),
            **raw,
            **{f"{name}_weighted": weights[name] * value for name, value in raw.items()},
            "grad_norm": norm,
            "lr": rate,
            "samples_per_s": self.plan.step_samples / max(time.monotonic() - started, 1e-9),
        }

    def _micro_batch(self, step: int, micro: int) -> dict[str, Tensor]:
        """Add one micro-batch's gradients. Returns its terms."""
        positions = step_positions(step, micro, self.accelerator.process_index, self.plan)
        batch = self.batches.training(
            self.section.seed, positions, self.plan, self.section.text_dropout
        )
        terms = self._objective.terms(batch.to(self.accelerator.device))
        weights = self._objective.weights_at(step / self.section.steps)
        loss = total(terms, weights) / self.plan.accumulation
        self.accelerator.backward(loss)
        return {name: value.detach() for name, value in terms.items()}

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        """Stop before the weights are touched; all processes see the same values."""
        for name, value in values.items():
            if not math.isfinite(value):
                good = f"{self._last.path} (step {self._last.step})" if self._last else "none"
                raise GateError(
                    f"the `{name}` term must be finite",
                    f"{value} at step {step}",
                    f"Last good checkpoint: {good}. Lower `distill.learning_rate` or the "
                    "term's weight.",
                )

    def _after_step(
        self, step: int, row: dict[str, float], log: MetricsLog, progress: Progress
    ) -> None:
        """Log, validate, draw and save what is due. Only the first process comes here."""
        section = self.section
        log.write(row)
        last = step == section.steps
        if last or step % section.validate_every == 0:
            self._validate(step, log, progress)
        if section.sample_every and step % section.sample_every == 0:
            self._draw(step, log)
        # After the rows of its step: a resumed run must not lack any.
        if last or step % section.checkpoint_every == 0:
            log.flush()
            self._save(step)

    def _validate(self, step: int, log: MetricsLog, progress: Progress) -> None:
        losses = self.validation.measure(self.ema.model)
        self._check_finite(step, losses)
        log.write({"step": step, **losses})
        progress.info(
            f"  step {step}: validation loss {losses['validation_task']:.4f}, "
            f"distance to the teacher {losses['validation_output']:.4f}"
        )

    def _draw(self, step: int, log: MetricsLog) -> None:
        sheet = self.sheet.draw(self.ema.model)
        path = self._sheet_path(step)
        with writing(path):
            save_png(sheet, path)
        log.picture("samples", sheet, step)

    def _sheet_path(self, step: int) -> Path:
        return self.folder.path / "samples" / f"step-{step:08d}.png"
