"""What was drawn for a report, as `report.json` holds it."""

from __future__ import annotations

from edgekd.report.part import ReportPart


class DataRecord(ReportPart):
    """What was drawn, and what it is held against.

    Attributes:
        key: hash of the validation images and captions: reports of one key and seed hold pictures
            against the same real images, whichever version of edgekd made them.
        prompts: different captions.
        own_prompts: they are the suite's, not those of held-out images.
        pictures: of each row; above `prompts`, captions were drawn again from other noise.
        prompts_by_holdout: real images that are measured like a row, by how they were held out.
    """

    key: str
    resolution: int
    validation: int
    prompts: int
    own_prompts: bool = False
    pictures: int
    prompts_by_holdout: dict[str, int]
    reference: int

    @property
    def real_images(self) -> int:
        """How many are measured like a row of pictures."""
        return sum(self.prompts_by_holdout.values())
