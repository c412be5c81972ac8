"""Suites that judge the search itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from edgekd.schema import Section


class TransferSetting(Section):
    """One way to run students: what stands for a device."""

    name: str = Field(..., min_length=1)
    target: str
    precision: str
    threads: int = Field(1, ge=1)


class TransferSuite(Section):
    """What a student that was searched for one setting is worth in the others."""

    kind: Literal["search-transfer"]
    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    speedup: float = Field(..., gt=1, description="of the teacher's picture time, in each setting")
    settings: list[TransferSetting] = Field(..., min_length=2)

    @field_validator("settings")
    @classmethod
    def _names_differ(cls, value: list[TransferSetting]) -> list[TransferSetting]:
        names = [one.name for one in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of `settings` must differ, but got {twice[0]!r} twice")
        return value


class BaselinesSuite(Section):
    """The searched student against presets and simpler rules, at each preset's latency."""

    kind: Literal["search-vs-baselines"]
    name: str = Field(..., pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    target: str
    precision: str
    threads: int = Field(1, ge=1)
    steps: int = Field(..., ge=1, description="denoising steps of every student")
    presets: list[str] = Field(..., min_length=1)
    seeds: list[int] = Field(..., min_length=1, description="of the distillation")
    samples: int = Field(..., ge=2, description="pictures of each student")
    pool: int = Field(20_000, ge=100, description="students that the simpler rules choose among")
    set: dict[str, Any] = Field({}, description="recipe fields: the distillation of all")
