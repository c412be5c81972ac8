"""How many layers a student's text encoders have, from configs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.reading import read_object

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
Config = Mapping[str, Any]


def read_text_configs(folder: Path) -> tuple[dict[str, Any], ...]:
    """The configs of a pipeline's text encoders, each with the number of its layers.

    Raises:
        InputError: one is damaged.
    """
    found = (folder / name for name in TEXT_ENCODERS)
    configs = [read_object(one / "config.json") for one in found if one.is_dir()]
    # Some folders hold the config of all of CLIP; 12 is what transformers takes where none is said.
    return tuple({"num_hidden_layers": 12, **one.get("text_config", one)} for one in configs)


def kept_layers(layers: int, share: float, xl: bool) -> int:
    """How many layers stay: one leaves at least.

    Args:
        xl: the pipeline reads the last but one layer, so two must stay.

    Raises:
        InputError: no layer can leave.
    """
    least = 2 if xl else 1
    if layers <= least:
        raise InputError(
            f"a text encoder that is pruned must have more than {least} layers",
            str(layers),
            "Leave `text_encoder` out of `distill.phases`.",
        )
    return min(layers - 1, max(least, round(share * layers)))


def pruned_configs(configs: Sequence[Config], share: float) -> tuple[Config, ...]:
    """The configs of text encoders that keep a share of their layers.

    Raises:
        InputError: see `kept_layers`.
    """
    xl = len(configs) > 1
    counts = (kept_layers(int(one["num_hidden_layers"]), share, xl) for one in configs)
    pairs = zip(configs, counts, strict=True)
    return tuple({**config, "num_hidden_layers": count} for config, count in pairs)
