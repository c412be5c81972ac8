"""One student in training: a step, and what is due after it.

A step is a pure function of the weights, the optimiser's state and the step number (see
`edgekd.training.draws`), so a killed run continues from its last checkpoint with the same
numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.distill.folder import RunFolder
from edgekd.distill.lesson import Lesson
from edgekd.distill.objective import total
from edgekd.distill.projections import projections_of
from edgekd.distill.sampling import save_png
from edgekd.distill.step_cost import with_cost
from edgekd.errors import GateError
from edgekd.files import writing
from edgekd.progress import Progress
from edgekd.recipe_distill import LoopSection, PhaseName
from edgekd.training.checkpoint import (
    Checkpoint,
    gather,
    load_optimizers,
    load_weights,
    optimizer_tensors,
)
from edgekd.training.ema import Ema
from edgekd.training.log import MetricsLog
from edgekd.training.optimizer import make_optimizer
from edgekd.training.schedule import RateSchedule
from edgekd.training.sharding import clip_gradients, make_sharing

# A cosine schedule ends here rather than at 0, so that the last steps are not without effect.
FINAL_RATE = 0.01
# Their models are small: every process has them whole, whatever the launcher asks for.
WHOLE_PHASES: tuple[PhaseName, ...] = ("decoder", "text_encoder")


def rate_schedule(section: LoopSection) -> RateSchedule:
    """Linear warm-up, then constant or a cosine whose end is the last step."""
    warmup = section.warmup_steps
    fall = 0 if section.lr_schedule == "constant" else max(1, section.steps - warmup - 1)
    return RateSchedule(section.learning_rate, warmup, warmup, fall, FINAL_RATE)


class Trainer:
    """A student in training.

    Args:
        section: of the lesson's own loop.
        accelerator: of accelerate, without mixed precision.
    """

    def __init__(
        self, section: LoopSection, lesson: Lesson, folder: RunFolder, accelerator: Any
    ) -> None:
        self.section, self.lesson, self.folder = section, lesson, folder
        self.accelerator = accelerator
        self.student = lesson.model
        small = lesson.phase in WHOLE_PHASES
        self._sharing = make_sharing(accelerator, small)
        projections = projections_of(self.student).values()
        self._wrapped: nn.Module = self._sharing.train(self.student, projections)
        self.ema = Ema(self.student, section.ema_decay, self._sharing.duplicate)
        if not small:
            self._sharing.freeze(lesson.teacher.unet)
        self._rates = rate_schedule(section)
        parameters = self.student.parameters()
        self._optimizer = make_optimizer(section, parameters, accelerator.device)
        self._last: Checkpoint | None = None

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """What a step is done in."""
        with self.lesson.attached(self._wrapped, self.ema.model):
            yield

    def run(self, progress: Progress) -> None:
        """Train from the last checkpoint, or from the start, to the last step."""
        section, main = self.section, self.accelerator.is_main_process
        joins = main or self._sharing.together
        self.accelerator.wait_for_everyone()
        step = self._restore(progress)
        self.accelerator.wait_for_everyone()
        with contextlib.ExitStack() as stack:
            log = None
            if main:
                if not self._last:
                    self.folder.clear()
                kept = step if self._last else -1
                log = stack.enter_context(MetricsLog(self.folder.path, kept, self.folder.tracked))
            stack.enter_context(self.attached())
            advance = stack.enter_context(
                progress.track(f"distill: {self.lesson.phase}", section.steps)
            )
            advance(step, resumed=True)
            if joins and not self._last:
                self._validate(0, log, progress)
            while step < section.steps:
                row = self._logged_step(step)
                step += 1
                advance(1)
                if joins:
                    self._after_step(step, row, log, progress)
            # Not by what is there: processes that draw together must all know.
            if joins and not self._draws_at(step):
                self._draw(step, log)

    def average(self) -> nn.Module:
        """The averaged student in one piece, for the first process; all must ask for it."""
        return self._sharing.unshard(self.ema.model)

    def try_step(self) -> dict[str, float]:
        """The first step, as an attached `run` does it, and nothing else: no file is touched."""
        return self._step(0)

    def _restore(self, progress: Progress) -> int:
        """Load the last checkpoint, if there is one. Returns the finished steps."""
        self._last = self.folder.checkpoints.latest(progress)
        if self._last is None:
            return 0
        parameters = dict(self.student.named_parameters())
        load_weights(parameters, self._last.load("student"))
        load_weights(dict(self.ema.model.named_parameters()), self._last.load("average"))
        load_optimizers(parameters, self._last.load("optimizer"), self._optimizer)
        self.lesson.restore(self._last.load("lesson"))
        progress.info(
            f"  {self.lesson.phase}: continuing at step {self._last.step} of {self.section.steps}"
        )
        return self._last.step

    def _save(self, step: int) -> None:
        parameters = dict(self.student.named_parameters())
        groups = {
            "student": parameters,
            "average": dict(self.ema.model.named_parameters()),
            "optimizer": optimizer_tensors(parameters, self._optimizer),
            "lesson": self.lesson.state(),
        }
        if self.accelerator.is_main_process:
            self._last = self.folder.checkpoints.save(step, groups)
        else:
            gather(groups)

    def _logged_step(self, step: int) -> dict[str, float]:
        """A step; before each validation, and once after the first, with what its parts take."""
        if step != 1 and (step + 1) % self.section.validate_every:
            return self._step(step)
        return with_cost(lambda: self._step(step), self.lesson)

    def _step(self, step: int) -> dict[str, float]:
        """Step `step` (from 0), of one or more updates. Returns its row of `metrics.jsonl`."""
        started, updates = time.monotonic(), self.lesson.updates
        weights, rate = self.lesson.weights_at(step), self._rates.at(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        rows = [self._update(step, update) for update in range(updates)]
        mean = {name: sum(row[name] for row in rows) / updates for name in rows[0]}
        raw = {name: mean[name] for name in weights}
        samples = (
            self.section.batch_size
            * self.section.gradient_accumulation
            * self.accelerator.num_processes
        )
        return {
            "step": step + 1,
            "loss": total(raw, weights),
            **raw,
            **{f"{name}_weighted": weights[name] * value for name, value in raw.items()},
            "grad_norm": mean["gradient"],
            "lr": rate,
            "samples_per_s": samples / max(time.monotonic() - started, 1e-9),
        }

    def _update(self, step: int, update: int) -> dict[str, float]:
        """One update of the weights. Returns its terms and the gradient's norm."""
        section, weights = self.section, self.lesson.weights_at(step)
        self._optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(len(weights), device=self.accelerator.device)
        for micro in range(section.gradient_accumulation):
            last = micro == section.gradient_accumulation - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self._wrapped):
                terms = self._micro_batch(step, update, micro)
            sums += torch.stack([terms[name] for name in weights]) / section.gradient_accumulation
        values = self.accelerator.reduce(sums, "mean").tolist()
        norm = clip_gradients(self.student.parameters(), section.max_grad_norm)
        row = {**dict(zip(weights, values, strict=True)), "gradient": norm}
        self._check_finite(step + 1, row)
        self._optimizer.step()
        self.ema.update(self.student, step * self.lesson.updates + update)
        return row

    def _micro_batch(self, step: int, update: int, micro: int) -> dict[str, Tensor]:
        """Add one micro-batch's gradients. Returns its terms."""
        terms = self.lesson.terms(step, update, micro)
        loss = total(terms, self.lesson.weights_at(step)) / self.section.gradient_accumulation
        self.accelerator.backward(loss)
        return {name: value.detach() for name, value in terms.items()}

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        """Stop before the weights are touched; all processes see the same values."""
        for name, value in values.items():
            if not math.isfinite(value):
                good = f"{self._last.path} (step {self._last.step})" if self._last else "none"
                own = "" if self.lesson.phase == "kd" else f"{self.lesson.phase}."
                raise GateError(
                    f"the `{name}` term must be finite",
                    f"{value} at step {step}",
                    f"Last good checkpoint: {good}. Lower `distill.{own}learning_rate` or the "
                    "term's weight.",
                )

    def _after_step(
        self, step: int, row: dict[str, float], log: MetricsLog | None, progress: Progress
    ) -> None:
        """Log, validate, draw and save what is due.

        Only the first process comes here, or all of them together; the others have no log.
        """
        section = self.section
        if log:
            log.write(row)
        last = step == section.steps
        if last or step % section.validate_every == 0:
            self._validate(step, log, progress)
        if self._draws_at(step):
            self._draw(step, log)
        # After the rows of its step: a resumed run must not lack any.
        if last or step % section.checkpoint_every == 0:
            if log:
                log.flush()
            self._save(step)

    def _validate(self, step: int, log: MetricsLog | None, progress: Progress) -> None:
        losses = self.lesson.validate(self.ema.model)
        self._check_finite(step, losses)
        if log:
            log.write({"step": step, **losses})
        progress.info(f"  step {step}: {self.lesson.describe(losses)}")

    def _draw(self, step: int, log: MetricsLog | None) -> None:
        sheet = self.lesson.draw(self.ema.model, step == self.section.steps)
        if log is None:
            return
        path = self.folder.path / "samples" / f"step-{step:08d}.png"
        with writing(path):
            save_png(sheet, path)
        log.picture("samples", sheet.picture, step)

    def _draws_at(self, step: int) -> bool:
        every = self.section.sample_every
        return every > 0 and step % every == 0
