"""Schema of a recipe's section `search`: which students are tried, and which is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgekd.schema import Section

Share = Annotated[float, Field(gt=0, le=1)]


SamplerName = Literal["tpe", "nsga2", "gp", "random"]


class Goal(Section):
    """What the student must be; without any of these, the fastest that keeps 0.9 of the quality."""

    latency_ms: float | None = Field(
        None, gt=0, description="goal: the best student whose picture takes at most this long"
    )
    speedup: float | None = Field(
        None, gt=1, description="goal: the same, as a part of the teacher's picture time"
    )
    min_quality: float | None = Field(
        None,
        gt=0,
        le=1,
        description="goal: the share of the teacher's quality that must be expected; null: the "
        "fastest student that keeps 0.9, or the best, where there is no other goal",
    )
    max_size_bytes: int | None = Field(
        None, ge=1, description="goal: size of the exported parts that draw"
    )
    margin: float = Field(
        0.08,
        ge=0,
        lt=1,
        description="share of the limit on latency that is left free where some student can: for "
        "what a picture takes between its graphs, and for the next measurement's noise",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> Goal:
        if self.latency_ms is not None and self.speedup is not None:
            raise ValueError(
                "one of `latency_ms` and `speedup` must be left out, "
                f"but got {self.latency_ms:g} and {self.speedup:g}"
            )
        return self


class SearchSection(Goal):
    """The search of a student for a target. It is left out where `student` names one."""

    widths: list[Share] = Field(
        [1.0, 0.75, 0.5], min_length=1, description="shares of a stage's channels to try"
    )
    decoder_widths: list[Share] = Field(
        [1.0, 0.5, 0.375, 0.25],
        min_length=1,
        description="shares of the VAE's channels to try, if `decoder` is a phase; 1: its own",
    )
    steps: list[Annotated[int, Field(ge=1, le=50)]] = Field(
        [1, 2, 4], min_length=1, description="steps of a picture to try, if `few_step` is a phase"
    )
    precisions: list[str] = Field(
        [], description="precisions of the target to try; empty: the one that it deploys"
    )
    threads: int = Field(1, ge=1, description="of the runtime, while it is timed")
    seconds: float = Field(120, gt=0, description="for all measurements and trials")
    whole_unets: int = Field(
        12, ge=4, description="whole U-Nets measured to correct the sums of their blocks"
    )
    calibration_samples: int = Field(
        16, ge=1, description="training samples that the importance of blocks is measured on"
    )
    quality_tables: str | None = Field(
        None,
        description="YAML file of what steps, decoder widths and precisions keep of the quality; "
        "null: as measured on the starter",
    )
    candidates: int = Field(20_000, ge=1, description="students that an evolution in memory scores")
    trials: int = Field(30, ge=0, description="students that `sampler` asks for, after that")
    sampler: SamplerName = "tpe"
    storage: str | None = Field(
        None,
        description="SQLAlchemy URL of a database that several hosts search in together; null: a "
        "file in the run folder",
    )
    finalists: int = Field(3, ge=1, description="students of the front that are measured whole")
    short_steps: int = Field(
        0,
        ge=0,
        description="steps of a short distillation that finalists are compared by; 0: none",
    )
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _short_within_a_limit(self) -> SearchSection:
        if self.short_steps and self.latency_ms is None and self.speedup is None:
            raise ValueError(
                "`short_steps` must come with a goal of latency, to find the best within it, "
                "but got neither `latency_ms` nor `speedup`"
            )
        return self
