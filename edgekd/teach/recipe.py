"""Schema of `configs/*-teacher.yaml`: the recipe of one `edgekd teach run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edgekd.recipe import SourcesSection, SplitSection
from edgekd.resources import STARTER_NAME
from edgekd.schema import Section, load_yaml, override, validate

PALETTE = {
    "black": "#212121",
    "grey": "#9e9e9e",
    "brown": "#795548",
    "red": "#e53935",
    "orange": "#fb8c00",
    "yellow": "#fdd835",
    "green": "#43a047",
    "blue": "#1e88e5",
    "purple": "#8e24aa",
    "pink": "#f48fb1",
}


class AugmentSection(Section):
    """Renderings of one image. Backgrounds show only through transparent pixels."""

    variants: int = Field(6, ge=1, description="renderings of each image in the latents cache")
    backgrounds: dict[str, str] = Field(
        PALETTE, description="colour name as captions say it: any colour Pillow reads"
    )
    white_fraction: float = Field(0.5, ge=0, le=1, description="renderings on white")
    jitter_fraction: float = Field(0.5, ge=0, le=1, description="renderings shifted and scaled")
    max_shift: float = Field(0.04, ge=0, lt=0.5, description="largest shift, share of the side")
    min_scale: float = Field(0.9, gt=0, le=1, description="smallest scale")
    flip_fraction: float = Field(0.1, ge=0, le=1, description="mirrored, where no word forbids it")
    directed_words: list[str] = Field(
        [
            "left",
            "right",
            "clock",
            "thirty",
            "tilted",
            "arrow",
            "text",
            "letters",
            "numbers",
            "sign",
        ],
        description="labels with one of these (also inside a word) are never mirrored",
    )

    @field_validator("backgrounds")
    @classmethod
    def _known_colors(cls, value: dict[str, str]) -> dict[str, str]:
        from PIL import ImageColor

        for name, color in value.items():
            try:
                opaque = len(ImageColor.getrgb(color)) == 3
            except ValueError:
                opaque = False
            if not opaque:
                raise ValueError(f"background `{name}` must be an opaque colour that Pillow reads")
        return value

    @model_validator(mode="after")
    def _some_color(self) -> AugmentSection:
        if self.white_fraction < 1 and not self.backgrounds:
            raise ValueError("`white_fraction` must be 1 where `backgrounds` is empty")
        return self


class CaptionSection(Section):
    """How a sample's caption is varied. Shares of captions, drawn for each use of a sample."""

    dropout: float = Field(0.1, ge=0, lt=1, description="empty captions, for guidance")
    with_tags: float = Field(0.2, ge=0, le=1, description="label followed by one or two tags")
    tags_only: float = Field(0.1, ge=0, le=1, description="two or three tags in place of the label")
    without_style: float = Field(0.1, ge=0, le=1)
    say_white: float = Field(0.3, ge=0, le=1, description="white backgrounds that are named")

    @model_validator(mode="after")
    def _shares(self) -> CaptionSection:
        if self.with_tags + self.tags_only > 1:
            raise ValueError("`with_tags + tags_only <= 1` must hold")
        return self


class TeachDataSection(SourcesSection):
    resolution: int = Field(64, ge=16, le=512, multiple_of=8, description="side in pixels")
    split: SplitSection = SplitSection()
    augment: AugmentSection = AugmentSection()
    captions: CaptionSection = CaptionSection()


class Phase(Section):
    steps: int = Field(..., ge=1)
    batch_size: int = Field(..., ge=1, description="samples per step, over all processes")


class TrainSection(Section):
    """Schedule and AdamW of one stage: warm-up, constant, cosine to zero at the end."""

    phases: list[Phase] = Field(..., min_length=1)
    learning_rate: float = Field(..., gt=0)
    warmup_steps: int = Field(100, ge=0)
    decay_steps: int = Field(
        0, ge=0, description="last steps, over which the rate falls to 0; at most all"
    )
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    log_every: int = Field(10, ge=1, description="steps in one row of metrics.jsonl")
    validate_every: int = Field(500, ge=1)
    validation_samples: int = Field(256, ge=1)

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


class VaeSection(Section):
    block_out_channels: list[int] = Field([32, 64, 112], min_length=1)
    layers_per_block: int = Field(1, ge=1)
    latent_channels: int = Field(4, ge=1)
    norm_num_groups: int = Field(16, ge=1)
    l1_weight: float = Field(1.0, ge=0)
    mse_weight: float = Field(1.0, ge=0)
    perceptual_weight: float = Field(0.1, ge=0, description="distance of EfficientNet-Lite0 maps")
    kl_weight: float = Field(5e-5, ge=0, description="on the mean KL divergence of a latent value")
    train: TrainSection

    @model_validator(mode="after")
    def _groups(self) -> VaeSection:
        _check_groups(self.block_out_channels, self.norm_num_groups)
        return self


class TextSection(Section):
    tokenizer: str = Field(STARTER_NAME, description="CLIPTokenizer folder, or `starter`")
    merges: int = Field(4000, ge=1, description="BPE merges kept, the most frequent first")
    max_tokens: int = Field(32, ge=4, le=77)
    layers: int = Field(4, ge=1)
    heads: int = Field(6, ge=1)
    hidden_size: int = Field(192, ge=8, description="also the U-Net's cross_attention_dim")
    embedding_size: int = Field(
        256, ge=8, description="of the contrastive space; dropped afterwards"
    )
    train: TrainSection

    @model_validator(mode="after")
    def _heads(self) -> TextSection:
        if self.hidden_size % self.heads:
            raise ValueError("`hidden_size` must be a multiple of `heads`")
        return self


class UNetSection(Section):
    block_out_channels: list[int] = Field([64, 128, 192], min_length=2)
    layers_per_block: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    norm_num_groups: int = Field(32, ge=1)
    min_snr_gamma: float | None = Field(5.0, gt=0, description="null: no min-SNR weighting")
    low_snr_power: float = Field(
        0.0,
        ge=0,
        le=1,
        description="times max(1, 1 / SNR) to this power: above 0, words are learned sooner",
    )
    timestep_sampling: Literal["uniform", "logit_normal"] = "uniform"
    logit_mean: float = Field(0.0, description="of logit(t / T); above 0: noisier")
    logit_std: float = Field(1.0, gt=0)
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`muon`: for the matrices of all layers but the first and the last"
    )
    compile: bool = Field(
        False,
        description="train a compiled U-Net: minutes at the start, then about 1.3 times as fast on"
        " a CPU; needs a C++ compiler",
    )
    text_learning_rate: float = Field(
        ..., ge=0, description="of the text encoder, trained along; 0: frozen"
    )
    train: TrainSection

    @model_validator(mode="after")
    def _groups(self) -> UNetSection:
        _check_groups(self.block_out_channels, self.norm_num_groups)
        if any(channels % self.heads for channels in self.block_out_channels):
            raise ValueError("each of `block_out_channels` must be a multiple of `heads`")
        return self


class SampleSection(Section):
    """Sample sheets, drawn with the averaged weights by DDIM."""

    prompts: list[str] = Field(..., min_length=1)
    every_minutes: float = Field(30, gt=0)
    steps: int = Field(25, ge=1)
    guidance_scale: float = Field(4.0, ge=1)


Kind = Literal["known", "new_style", "new_label"]


class EvaluateSection(Section):
    """`edgekd teach evaluate`. Steps of DDIM are those of `samples`."""

    samples: int = Field(2000, ge=16, description="pictures of pairs that training saw")
    heldout_samples: int = Field(
        400, ge=16, description="pictures of new styles of known labels, and as many of new labels"
    )
    labels: int = Field(200, ge=2, description="labels that retrieval chooses among")
    sweep_samples: int = Field(200, ge=16, description="pictures for each of `guidance_scales`")
    guidance_scales: list[Annotated[float, Field(ge=1)]] = Field(
        [1.5, 2.0, 3.0, 4.0, 6.0, 8.0], min_length=1
    )
    kid_subsets: int = Field(50, ge=1)
    kid_subset_size: int = Field(128, ge=2, description="at most the number of pictures")
    batch_size: int = Field(25, ge=1)
    workers: int = Field(0, ge=0, description="processes that draw; 0: one per core")
    seed: int = Field(0, ge=0, description="of prompts, renderings, noise and KID's subsets")
    sheet: dict[Kind, list[str]] = Field(
        {}, description="prompts of the sample sheet; empty: chosen by the rule for this data"
    )


class TeachRecipe(Section):
    name: str = Field(..., pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    start_from: str | None = Field(
        None,
        description="teacher folder, or `starter`, of this recipe's structure: its VAE is kept"
        " (`vae.train` and `text.train` are not used), its U-Net and text encoder are trained on,"
        " with a new optimiser and warm-up. Another `seed` shows the images in a new order",
    )
    data: TeachDataSection = TeachDataSection()
    vae: VaeSection
    text: TextSection
    unet: UNetSection
    samples: SampleSection
    evaluate: EvaluateSection = EvaluateSection()
    checkpoint_minutes: float = Field(5, ge=0, description="0: at every row of metrics.jsonl")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="`auto`: bf16 where the hardware has it, else fp32"
    )
    processes: int = Field(1, ge=1)
    threads: int = Field(1, ge=1, description="CPU threads of each process")
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _fits(self) -> TeachRecipe:
        factor = 2 ** (len(self.vae.block_out_channels) - 1)
        deepest = factor * 2 ** (len(self.unet.block_out_channels) - 1)
        if self.data.resolution % deepest:
            raise ValueError(
                f"`data.resolution` must be a multiple of {deepest}, what VAE and U-Net halve"
            )
        for name, stage in (("vae", self.vae), ("text", self.text), ("unet", self.unet)):
            for phase in stage.train.phases:
                if phase.batch_size % self.processes:
                    raise ValueError(
                        f"`{name}.train.phases` batch_size must be a multiple of `processes`:"
                        f" {phase.batch_size} over {self.processes}"
                    )
        return self


def _check_groups(channels: list[int], groups: int) -> None:
    if any(value % groups for value in channels):
        raise ValueError("each of `block_out_channels` must be a multiple of `norm_num_groups`")


def load_teach_recipe(path: Path, assignments: list[str] | None = None) -> TeachRecipe:
    """Load and validate a teacher's recipe file, with `--set` assignments applied.

    Raises:
        InputError: unreadable, or against the schema.
    """
    return validate(TeachRecipe, override(load_yaml(path), assignments or []), f"recipe `{path}`")
