"""Schema of a recipe's section `distill.losses`: the loss terms and their weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from edgekd.entries import TERMS, entries
from edgekd.schema import Section

# Fields of `LossSection` that are no weights.
LOSS_OPTIONS = frozenset(
    {
        "min_snr_gamma",
        "lift_groups",
        "attention_temperature",
        "attention_queries",
        "attention_layers",
        "balance",
        "hints_until",
    }
)


class LossSection(Section):
    """Weights of the loss terms; 0 turns a term off and saves its cost.

    Terms that other packages bring (entry points `edgekd.terms`) may be named beside these.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[float, Field(ge=0)]]

    task: float = Field(0.1, ge=0, description="noise prediction against the ground truth")
    output: float = Field(1.0, ge=0, description="student against teacher prediction")
    output_lift: float = Field(
        0.0,
        ge=0,
        description="the same, coarse part first: for very small students",
    )
    feature: float = Field(
        0.1, ge=0, description="block features, normalised by the teacher's power"
    )
    activation_map: float = Field(
        0.0, ge=0, description="where blocks are active, summed over channels: of any width"
    )
    self_attention: float = Field(0.0, ge=0, description="attention of pixels to pixels")
    cross_attention: float = Field(0.0, ge=0, description="attention of pixels to the text")
    min_snr_gamma: float | None = Field(5.0, gt=0, description="null: no min-SNR weighting")
    lift_groups: int = Field(
        1, ge=1, description="parts of a prediction, by size of error, that `output_lift` fits"
    )
    attention_temperature: float = Field(
        1.0, gt=0, description="both sides' attention logits are divided by it"
    )
    attention_queries: int = Field(256, ge=1, description="queries compared in a layer and step")
    attention_layers: int = Field(2, ge=1, description="layers of each kind compared in a step")
    balance: Literal["none", "initial"] = Field(
        "none", description="initial: each term is divided by its value before training"
    )
    hints_until: float | None = Field(
        None,
        gt=0,
        le=1,
        description="part of the training over which the weights of terms inside the U-Net "
        "(features, maps, attention) fall to 0; null: they stay",
    )

    @model_validator(mode="after")
    def _some_term(self) -> LossSection:
        for name in self.__pydantic_extra__:
            if not is_loss_term(name):
                raise ValueError(f"`{name}` must be a loss term: {', '.join(entries(TERMS))}")
        if not self.weights:
            raise ValueError("at least one loss weight must be above 0")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term that is on: those above in their order, then others by name."""
        fields = (name for name in type(self).model_fields if name not in LOSS_OPTIONS)
        names = (*fields, *sorted(self.__pydantic_extra__))
        return {name: weight for name in names if (weight := getattr(self, name)) > 0}


def is_loss_term(name: str) -> bool:
    """Whether an installed package brings a loss term of this name."""
    return name in entries(TERMS)
