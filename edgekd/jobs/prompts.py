"""Prompts as the user gave them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgekd.artifacts import PreparedData
from edgekd.progress import Progress


def say_what_is_cut(pipeline: Path, prompts: Iterable[str], progress: Progress) -> None:
    """One line for each prompt that is longer than a pipeline's text encoder reads."""
    from edgekd.diffusion.components import load_tokenizer

    tokenizer = load_tokenizer(pipeline / "tokenizer")
    for prompt in prompts:
        count = len(tokenizer(prompt).input_ids) - tokenizer.model_max_length
        if count > 0:
            shown = prompt if len(prompt) <= 60 else f"{prompt[:57]}..."
            progress.info(f"  {count} tokens do not fit and are left out: {shown!r}")


def parity_prompts(data: PreparedData, count: int) -> list[str]:
    """The first different captions of the validation split."""
    from edgekd.data.dataset import iter_prepared

    prompts: dict[str, None] = {}
    for sample in iter_prepared(data, "validation"):
        prompts[sample.caption] = None
        if len(prompts) == count:
            break
    return list(prompts)
