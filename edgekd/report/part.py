"""What all parts of a report have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Points = list[tuple[float, float]]


class ReportPart(BaseModel):
    """A part of the report: no field but its own, and no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
