"""`StudentArch`: what a student keeps of its teacher's U-Net, as pure data.

A U-Net stage is the down block and the up block of one resolution. Each is a
row of pairs: a residual block and, in stages that attend, a transformer of one
or more blocks. In a stock `UNet2DConditionModel` the up block of a stage has
one pair more than its down block, and everything that a `StudentArch` can say
keeps to that: a student is always an ordinary diffusers config.

All indices are the teacher's. `None` means "as in the teacher";
`edgekd.student.resolve` fills it in and checks the rest.
"""

from __future__ import annotations

from pydantic import Field, StrictBool, StrictInt, model_validator

from edgekd.schema import Section

Indices = tuple[StrictInt, ...]


class StageArch(Section):
    """One stage of a student."""

    width: StrictInt | None = Field(None, description="channels; at most the teacher's")
    down: Indices | None = Field(None, description="kept pairs of the down block")
    up: Indices | None = Field(None, description="kept pairs of the up block: one more than `down`")
    down_transformers: tuple[Indices, ...] | None = Field(
        None, description="kept blocks of each pair in `down`; all empty: it does not attend"
    )
    up_transformers: tuple[Indices, ...] | None = Field(None, description="the same for `up`")


class StudentArch(Section):
    """A student's U-Net."""

    stages: tuple[StageArch, ...] = Field(
        ..., min_length=1, description="outermost first; the teacher's others are removed"
    )
    mid: StrictBool = Field(True, description="whether the mid block is kept")
    mid_transformers: Indices | None = Field(
        None,
        description="kept transformer blocks of the mid block; none: one residual block alone",
    )

    @model_validator(mode="after")
    def _no_blocks_without_mid(self) -> StudentArch:
        if self.mid_transformers is not None and not self.mid:
            raise ValueError(
                "`mid_transformers` must be left out without a mid block, "
                f"but got {list(self.mid_transformers)}"
            )
        return self
