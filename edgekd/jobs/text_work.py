"""Work and size of the phase `text_encoder`, from configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.recipe_distill import TextEncoderSection
from edgekd.schema import validate
from edgekd.student.cost import TRAIN_TO_FORWARD, TextEncoderConfig, text_encoder_cost
from edgekd.student.text_depth import pruned_configs

Configs = Sequence[Mapping[str, Any]]


def text_encoder_macs(section: TextEncoderSection, configs: Configs) -> float:
    """MACs of the phase but for its sheets: a batch's embeddings without each layer in turn, by
    which layers are chosen, then the training and the validations."""
    validations = 1 + -(-section.steps // section.validate_every)
    held_out = validations * section.validation_samples
    trained, macs = section.samples, 0.0
    for whole, pruned in zip(configs, pruned_configs(configs, section.depth), strict=True):
        teacher, student = (text_encoder_cost(one, False).macs for one in (whole, pruned))
        layers, kept = (int(one["num_hidden_layers"]) for one in (whole, pruned))
        tries = sum(count * (count - 1) / layers for count in range(kept + 1, layers + 1))
        step = section.batch_size * section.gradient_accumulation
        macs += teacher * (trained + held_out + tries * step)
        macs += student * (TRAIN_TO_FORWARD * trained + held_out)
    return macs


def text_encoder_parameters(section: TextEncoderSection, configs: Configs) -> int:
    """Trained ones: all but the embeddings of tokens and positions."""
    total = 0
    for number, config in enumerate(pruned_configs(configs, section.depth)):
        sizes = validate(TextEncoderConfig, dict(config), "the text encoder")
        embedded = (sizes.vocab_size + sizes.max_position_embeddings) * sizes.hidden_size
        total += text_encoder_cost(config, projection=number > 0).parameters - embedded
    return total
