"""Schema of a recipe's section `distill`: the phases and their loops."""

from __future__ import annotations

import math
from typing import Literal, get_args

from pydantic import Field, model_validator

from edgekd.recipe_losses import LossSection
from edgekd.schema import Section


class LoopSection(Section):
    """A training loop's settings."""

    steps: int = Field(1_000, ge=1)
    batch_size: int = Field(32, ge=1, description="samples per step and process")
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="adamw_8bit: its two moments in 8 bits, a quarter of their memory; needs "
        "`edgekd[8bit]`",
    )
    adam_beta2: float = Field(
        0.999, gt=0, lt=1, description="decay of the second moment: 0.95 looks back 20 steps"
    )
    max_grad_norm: float = Field(1.0, gt=0)
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = Field(0.995, ge=0.0, lt=1.0, description="0: no EMA")
    checkpoint_every: int = Field(100, ge=1)
    validate_every: int = Field(100, ge=1)
    validation_samples: int = Field(128, ge=1)
    sample_every: int = Field(0, ge=0, description="0: sample sheet only at the end")

    @property
    def samples(self) -> int:
        """Of all steps, in one process."""
        return self.steps * self.batch_size * self.gradient_accumulation


class FewStepSection(LoopSection):
    """The phase `few_step`: the student draws its teacher's guided pictures in a few steps."""

    method: Literal["trajectory", "consistency", "distribution"] = Field(
        "trajectory",
        description="trajectory: follow the teacher's drawn trajectories (SFD); consistency: jump "
        "alike from neighbouring noise levels, at any guidance scale (LCM); distribution: draw "
        "pictures that teacher and a score of the student's own agree on (DMD2 without GAN)",
    )
    student_steps: int = Field(4, ge=1, le=50, description="steps of the student's sampler")
    teacher_steps: int = Field(
        16,
        ge=1,
        description="least steps of the teacher's sampler (DPM-Solver++ 2M), where it is followed "
        "(trajectory) or compared with (consistency)",
    )
    guidance_scale: float = Field(
        7.5,
        ge=1.0,
        description="of the teacher's pictures. consistency, and `guidance: keep`: what the "
        "student's clients are told to give it",
    )
    guidance_stop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the way from noise on which the teacher is guided; on the rest it "
        "goes by the caption alone",
    )
    trajectories: int = Field(
        10_000, ge=1, description="trajectory: drawn by the teacher before the training, and kept"
    )
    guidance_range: tuple[float, float] = Field(
        (3.0, 15.0), description="consistency: guidance scales that the student learns to obey"
    )
    fake_updates: int = Field(
        5, ge=1, description="distribution: updates of the student's score for each of the student"
    )
    batch_size: int = Field(16, ge=1, description="trajectories per step and process")
    learning_rate: float = Field(5e-5, gt=0)
    ema_decay: float = Field(
        0.995,
        ge=0.0,
        lt=1.0,
        description="0: no EMA. consistency: the average is the target too, 0.95 in LCM",
    )

    @model_validator(mode="after")
    def _told_what_was_learned(self) -> FewStepSection:
        low, high = self.guidance_range
        if not 1 <= low <= high:
            raise ValueError(
                f"`1 <= guidance_range[0] <= guidance_range[1]` must hold, but got {low}, {high}"
            )
        if self.method == "consistency" and not low <= self.guidance_scale <= high:
            raise ValueError(
                "`guidance_scale` must lie in `guidance_range` for `method: consistency`, but got "
                f"{self.guidance_scale} and {low} to {high}"
            )
        return self

    @property
    def drawn(self) -> dict[Literal["train", "validation"], int]:
        """Trajectories of each split."""
        held_out = min(self.validation_samples, self.trajectories)
        return {"train": self.trajectories, "validation": held_out}

    @property
    def solver_steps(self) -> int:
        """Steps of the teacher: as many in each of the student's."""
        return -(-self.teacher_steps // self.student_steps) * self.student_steps

    @property
    def teacher_passes(self) -> int:
        """Passes of the teacher's U-Net for one of its pictures: two in each guided step."""
        guided = math.ceil(round(self.guidance_stop * self.solver_steps, 6))
        return self.solver_steps + (guided if self.guidance_scale > 1 else 0)


class DecoderSection(LoopSection):
    """The phase `decoder`: a narrow VAE takes the place of the teacher's."""

    kind: Literal["kl", "tiny"] = Field(
        "kl",
        description="kl: an AutoencoderKL, at first fitted to the teacher's; tiny: an "
        "AutoencoderTiny (TAESD), at first random",
    )
    width: float = Field(
        0.5, gt=0, le=1, description="share of each stage's channels that stays (tiny: of 64)"
    )
    layers: int | None = Field(
        None, ge=1, description="residual blocks of a stage; null: all (tiny: 3)"
    )
    perceptual: float = Field(1.0, ge=0, description="weight of EfficientNet-Lite0's features")
    moments: float = Field(
        1.0, ge=0, description="weight of the encoder's; 0: it stays as fitted (tiny: random)"
    )
    generated: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of drawn latents: `few_step.method: trajectory` alone leaves some",
    )
    crop: int = Field(32, ge=8, description="side of random crops that larger latents are cut to")
    batch_size: int = Field(16, ge=1, description="latents per step and process")
    learning_rate: float = Field(1e-3, gt=0)


class TextEncoderSection(LoopSection):
    """The phase `text_encoder`: text encoders of fewer layers learn the teacher's embeddings."""

    depth: float = Field(
        0.5, gt=0, lt=1, description="share of each encoder's layers that stays, rounded"
    )
    cosine: float = Field(1.0, ge=0, description="weight of the embeddings' direction")
    batch_size: int = Field(32, ge=1, description="captions per step and process")
    learning_rate: float = Field(3e-4, gt=0)


PhaseName = Literal["kd", "few_step", "decoder", "text_encoder"]
TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class DistillSection(LoopSection):
    """What the student is taught: the phases in their order; the loop's settings are of `kd`."""

    phases: list[PhaseName] = Field(["kd", "few_step", "decoder"], min_length=1)
    gradient_checkpointing: bool = False
    compile: bool = Field(False, description="torch.compile of the U-Nets of `kd` and `few_step`")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware computes it, else fp32"
    )
    text_dropout: float = Field(0.1, ge=0.0, lt=1.0, description="captions dropped for guidance")
    shuffle_window: int = Field(
        0,
        ge=0,
        description="samples among which noisy images are drawn at a time, from blocks of "
        "neighbours: for caches on slow disks; 0: all",
    )
    initialise: Literal["teacher", "random"] = Field(
        "teacher", description="student's first weights"
    )
    losses: LossSection = LossSection()
    few_step: FewStepSection = FewStepSection()
    decoder: DecoderSection = DecoderSection()
    text_encoder: TextEncoderSection = TextEncoderSection()
    sample_prompts: list[str] = Field([], description="fixed prompts; empty: from validation")
    sample_steps: int = Field(20, ge=1)
    guidance_scale: float = Field(4.0, ge=1.0, description="of the sample sheets of `kd`")
    guidance: Literal["distil", "keep"] = Field(
        "distil",
        description="of a few-step student. distil: its teacher's is in its weights, and it draws "
        "in one pass a step; keep: it draws in two, and obeys scales and negative prompts",
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch's default")
    trackers: list[TrackerName] = Field(
        ["tensorboard"], description="are told the rows of `metrics.jsonl` and shown the samples"
    )
    seed: int = Field(0, ge=0, lt=2**32)

    def loop(self, phase: PhaseName) -> LoopSection:
        """A phase's own settings; those of `kd` stand in the section itself."""
        sections: dict[PhaseName, LoopSection] = {
            "kd": self,
            "few_step": self.few_step,
            "decoder": self.decoder,
            "text_encoder": self.text_encoder,
        }
        return sections[phase]

    @property
    def kept_guidance(self) -> float:
        """The scale that a few-step student is guided at in two passes; 1: one pass is enough."""
        return self.few_step.guidance_scale if self.guidance == "keep" else 1.0

    @model_validator(mode="after")
    def _guidance_is_the_methods(self) -> DistillSection:
        if self.guidance == "keep" and self.few_step.method != "trajectory":
            raise ValueError(
                "`guidance: keep` needs `few_step.method: trajectory`, but got "
                f"{self.few_step.method}"
            )
        return self

    @model_validator(mode="after")
    def _each_phase_once(self) -> DistillSection:
        order = [name for name in get_args(PhaseName) if name in self.phases]
        if self.phases != order:
            raise ValueError(f"`phases` must be some of {list(get_args(PhaseName))}, in this order")
        return self
