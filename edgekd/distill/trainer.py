"""One student in training: a step, and what is due after it.

A step is a pure function of the weights, the optimiser's state and the step number (see
`edgekd.training.draws`), so a killed run continues from its last checkpoint with the same
numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.diffusion.load import Teacher
from edgekd.diffusion.noise_schedule import read_schedule
from edgekd.disk import writing
from edgekd.distill import checkpoint as checkpoints
from edgekd.distill.batches import Batches, Latents
from edgekd.distill.checkpoint import Checkpoint
from edgekd.distill.log import MetricsLog
from edgekd.distill.objective import Objective, total
from edgekd.distill.sampling import SampleSheet, choose_prompts, save_png
from edgekd.distill.schedule import learning_rate
from edgekd.distill.validation import Validation
from edgekd.errors import GateError, InputError
from edgekd.libraries import diffusers
from edgekd.progress import Progress
from edgekd.recipe import DistillSection
from edgekd.student.arch import StudentArch
from edgekd.student.build import build_student
from edgekd.student.config import to_unet_config
from edgekd.student.mapping import feature_pairs
from edgekd.training.draws import BatchPlan, step_positions
from edgekd.training.ema import Ema
from edgekd.training.precision import autocast_dtype, training_attention

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
# What a run writes into its folder.
OWN = ("artifact.json", "student", METRICS_FILE, "tensorboard", "samples", CHECKPOINTS)


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
    if section.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    # Evaluation mode: a U-Net has no layer that must train differently, and the dropout that
    # a config may ask for would draw from the global generator.
    return student.requires_grad_(True).eval()


class Trainer:
    """A student in training.

    Args:
        arch: explicit student architecture.
        train: cached training split.
        validation: cached validation split.
        accelerator: of accelerate, without mixed precision.
        out: folder of the run.
        key: checkpoints of another key are not used.

    Raises:
        InputError: see `distill`.
    """

    def __init__(
        self,
        section: DistillSection,
        arch: StudentArch,
        teacher: Teacher,
        train: Latents,
        validation: Latents,
        accelerator: Any,
        out: Path,
        key: str,
    ) -> None:
        for name, split in (("training", train), ("validation", validation)):
            if len(split) == 0:
                raise InputError(f"the {name} split must have samples", "0")
        self.section, self.accelerator, self.out, self.key = section, accelerator, out, key
        autocast = autocast_dtype(section.precision, accelerator.device)
        schedule = read_schedule(teacher.scheduler)
        self.batches = Batches(train, teacher.info, teacher.vae.config, schedule)
        held_out = Batches(validation, teacher.info, teacher.vae.config, schedule)
        self.validation = Validation(
            held_out.validation(section.validation_samples, section.batch_size),
            teacher.unet,
            autocast,
        )
        self.sheet = SampleSheet(
            teacher,
            section.sample_prompts or choose_prompts(validation),
            section.sample_steps,
            section.guidance_scale,
            section.seed,
            train.batch(torch.tensor([0])).mean.shape[-1],
        )
        self.plan = BatchPlan(
            section.batch_size, section.gradient_accumulation, accelerator.num_processes
        )
        self.student = new_student(section, arch, teacher.unet)
        self.ema = Ema(self.student, section.ema_decay)
        self._attention = [
            training_attention(unet, accelerator.device, autocast)
            for unet in (teacher.unet, self.student, self.ema.model)
        ]
        self._optimizer = torch.optim.AdamW(
            self.student.parameters(),
            lr=section.learning_rate,
            weight_decay=section.weight_decay,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        self._wrapped: nn.Module = accelerator.prepare_model(self.student)
        self._objective = Objective(
            self._wrapped,
            teacher.unet,
            section.losses,
            feature_pairs(arch, dict(teacher.unet.config)),
            schedule.to(accelerator.device),
            autocast,
        )
        self._last: Checkpoint | None = checkpoints.latest(out / CHECKPOINTS, key)

    def run(self, progress: Progress) -> None:
        """Train from the last checkpoint, or from the start, to the last step."""
        section, main = self.section, self.accelerator.is_main_process
        self.accelerator.wait_for_everyone()
        step = 0
        if self._last:
            checkpoints.restore(self._last, self.student, self.ema.model, self._optimizer)
            step = self._last.step
            progress.info(f"  distill: continuing at step {step} of {section.steps}")
        self.accelerator.wait_for_everyone()
        with contextlib.ExitStack() as stack:
            log = None
            if main:
                if not self._last:
                    self._clear()
                log = stack.enter_context(MetricsLog(self.out, step if self._last else -1))
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
            if log and not (self.out / _sheet_name(step)).is_file():
                self._draw(step, log)

    def _clear(self) -> None:
        """Remove what a run of another key left: none of it belongs to this one."""
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            for path in (self.out / name for name in OWN):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def _step(self, step: int) -> dict[str, float]:
        """Optimiser step `step` (from 0). Returns its row of `metrics.jsonl`."""
        section, started = self.section, time.monotonic()
        self._optimizer.zero_grad(set_to_none=True)
        weights = self._objective.weights
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
        rate = learning_rate(section, step)
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
        loss = total(terms, self._objective.weights) / self.plan.accumulation
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
            self._last = checkpoints.save(
                self.out / CHECKPOINTS,
                self.key,
                step,
                self.student,
                self.ema.model,
                self._optimizer,
            )

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
        path = self.out / _sheet_name(step)
        with writing(path):
            save_png(sheet, path)
        log.picture("samples", sheet, step)


def _sheet_name(step: int) -> str:
    return f"samples/step-{step:08d}.png"
