"""Schema of `tools/starter/scorer.yaml`: how the starter's image-text scorer is trained."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edgekd.schema import Section, load_yaml, override, validate
from edgekd.teach.recipe import TeachDataSection


class DegradeSection(Section):
    """Damage done to half of the training pictures, as generated ones are not clean either."""

    fraction: float = Field(0.5, ge=0, le=1, description="pictures that are degraded at all")
    min_rescale: float = Field(0.5, gt=0, le=1, description="smallest size on the way down and up")
    max_blur_px: float = Field(1.0, ge=0, description="largest radius of a Gaussian blur")
    max_noise: float = Field(10.0, ge=0, description="largest standard deviation, grey levels")
    contrast: float = Field(0.15, ge=0, lt=1, description="largest relative change of contrast")
    background_shift: int = Field(14, ge=0, description="largest change of a background's channel")


class TokenizerSection(Section):
    vocabulary: int = Field(3_000, ge=300, description="byte pairs, letters and special tokens")
    max_tokens: int = Field(24, ge=4)


class ModelSection(Section):
    dimensions: int = Field(192, ge=8, description="of the shared space")
    image_width: int = Field(512, ge=8)
    image_dropout: float = Field(0.2, ge=0, lt=1)
    thumbnail: int = Field(8, ge=1, le=64, description="side of the grid of mean colours")
    text_width: int = Field(128, ge=8)
    text_heads: int = Field(4, ge=1)
    text_layers: int = Field(1, ge=0)
    text_dropout: float = Field(0.1, ge=0, lt=1)


class ScorerTrainSection(Section):
    variants: int = Field(8, ge=1, description="renderings of each image")
    steps: int = Field(..., ge=1)
    labels: int = Field(192, ge=2, description="different labels in a batch")
    images_per_label: int = Field(2, ge=1, description="near misses: same label, other style")
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(50, ge=0)
    weight_decay: float = Field(0.1, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    initial_scale: float = Field(20.0, gt=0, description="inverse temperature")
    max_scale: float = Field(60.0, gt=0)
    plain_captions: float = Field(
        0.15, ge=0, le=1, description="pictures on white captioned as the data captions them"
    )
    unknown_tokens: float = Field(0.05, ge=0, lt=1, description="tokens hidden in training")
    log_every: int = Field(50, ge=1)


class ScorerRecipe(Section):
    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    data: TeachDataSection = TeachDataSection()
    degrade: DegradeSection = DegradeSection()
    tokenizer: TokenizerSection = TokenizerSection()
    model: ModelSection = ModelSection()
    train: ScorerTrainSection
    threads: int = Field(1, ge=1)
    seed: int = 0


def load_scorer_recipe(path: Path, assignments: list[str] | None = None) -> ScorerRecipe:
    """Read and validate a recipe file, with `--set` assignments applied.

    Raises:
        InputError: the file or an assignment does not follow the schema.
    """
    values = override(load_yaml(path), assignments or [])
    return validate(ScorerRecipe, values, f"recipe `{path}`")
