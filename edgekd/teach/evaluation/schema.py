"""What an evaluation of a teacher measured: the form of `evaluation.json`."""

from __future__ import annotations

from typing import Literal

from edgekd.report.schema import Environment
from edgekd.schema import Section
from edgekd.teach.recipe import Kind, TeachRecipe

FORMAT: Literal[1] = 1


class Retrieval(Section):
    """Shares of pictures that find their label, first and among five; None: no such picture."""

    r1: float
    r1_standard_error: float
    r5: float
    r1_on_white: float | None
    r1_on_colors: float | None


class Accuracy(Section):
    """Of a probe on real images, over all and by name."""

    accuracy: float
    by: dict[str, float]


class Ceilings(Section):
    """What the probes reach on held-out real images: `images` renderings."""

    fitted_on: int
    style: Accuracy
    background: Accuracy
    images: int


class StyleFigures(Section):
    accuracy: float
    prompts: int
    by: dict[str, float]


class BackgroundFigures(Section):
    """None where no prompt names a background, or all do."""

    accuracy: float | None
    prompts: int
    by: dict[str, float]
    unnamed_accuracy: float | None
    unnamed_prompts: int


class Distances(Section):
    fd: float
    kid: float
    kid_standard_deviation: float


class RowFigures(Distances):
    """All figures of one row of pictures."""

    retrieval: Retrieval
    score: float
    style: StyleFigures
    background: BackgroundFigures


class ScaleFigures(RowFigures):
    guidance_scale: float


class GuidanceSweep(Section):
    rule: str
    prompts: int
    rows: list[ScaleFigures]
    real: RowFigures
    chosen: float


class SetRows(Section):
    """Pictures of the same prompts; see `edgekd.teach.evaluation.figures`."""

    generated: RowFigures
    real: RowFigures
    autoencoder: RowFigures


class SetFigures(Section):
    """The figures of one set of prompts.

    Attributes:
        pairs: different subjects among the prompts.
        fd_over_autoencoder: None where the floor is zero, as in the fields below; the shares of
            real images' retrieval are None too where these are no ceiling.
    """

    prompts: int
    pairs: int
    reference: int
    reference_subjects: int
    gallery: int
    rows: SetRows
    fd_over_autoencoder: float | None
    fd_over_real: float | None
    r1_over_real: float | None
    r5_over_real: float | None


class MetricNames(Section):
    fd: str
    kid: str
    scorer: str


class NamedSetFigures(SetFigures):
    metrics: MetricNames


class Sets(Section):
    """By kind of prompt."""

    known: NamedSetFigures
    new_style: NamedSetFigures
    new_label: NamedSetFigures

    def of(self, kind: Kind) -> NamedSetFigures:
        figures: NamedSetFigures = getattr(self, kind)
        return figures


class Spread(Section):
    """Quantiles of distances; how many are nearer than natural, and as near as a copy."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float
    below_held_out_p05: float
    within_copies_p95: float


class NearestFigures(Section):
    images: int
    feature: Spread
    pixel: Spread


class PromptedNearestFigures(NearestFigures):
    """Of generated pictures: shares whose nearest training image is what the prompt says."""

    nearest_has_own_pair: float
    nearest_has_own_label: float


class Copying(Section):
    """By kind of prompt, `held_out_real` and `autoencoder_copies`; no row without white prompts."""

    training_images: int
    rows: dict[str, PromptedNearestFigures | NearestFigures]


class Reconstruction(Section):
    images: int
    psnr_db: float
    psnr_p10_db: float
    ssim: float
    ssim_p10: float


class HeldOutReconstruction(Reconstruction):
    on_white: Reconstruction
    on_colors: Reconstruction
    finest_tenth: Reconstruction


class NamedImage(Section):
    label: str
    style: str
    psnr_db: float


class ShownReconstruction(HeldOutReconstruction):
    """With the images of the sheets, in their order."""

    worst: list[NamedImage]
    finest: list[NamedImage]


class AutoencoderFigures(Section):
    new_style: HeldOutReconstruction
    new_label: ShownReconstruction


class QualityTarget(Section):
    """A figure beside its limits.

    Attributes:
        reached: None where the figure could not be taken, or not of enough pictures.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    reached: bool | None


class LowestPicture(Section):
    kind: Kind
    prompt: str
    score: float


class TeacherFacts(Section):
    key: str
    family: str
    parameters: dict[str, int]
    bytes: int


class DataFacts(Section):
    key: str
    resolution: int
    train: int
    validation: int
    styles: list[str]
    backgrounds: list[str]


class Settings(Section):
    """The recipe's `evaluate` and `samples`, without what changes no figure."""

    samples: int
    heldout_samples: int
    labels: int
    sweep_samples: int
    guidance_scales: list[float]
    kid_subsets: int
    kid_subset_size: int
    seed: int
    steps: int
    scheduler: str

    @classmethod
    def of(cls, recipe: TeachRecipe) -> Settings:
        values = recipe.evaluate.model_dump(exclude={"sheet", "workers", "batch_size"})
        return cls(**values, steps=recipe.samples.steps, scheduler="DDIMScheduler")


class EvaluationResult(Section):
    """`evaluation.json`.

    Attributes:
        sheet: prompts of the sample sheet by kind, in the order of its pictures.
        lowest: what fits its prompt least, in the order of its sheet.
    """

    format: Literal[1] = FORMAT
    recipe: str
    teacher: TeacherFacts
    data: DataFacts
    settings: Settings
    environment: Environment
    probes: Ceilings
    guidance: GuidanceSweep
    sets: Sets
    copying: Copying
    autoencoder: AutoencoderFigures
    sheet: dict[Kind, list[str]]
    lowest: list[LowestPicture]
    targets: list[QualityTarget]
