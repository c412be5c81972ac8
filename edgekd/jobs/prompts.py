"""Prompts as the user gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.errors import InputError

if TYPE_CHECKING:
    pass


def check_prompts(prompts: list[str]) -> None:
    """Empty captions are for guidance, not for drawing."""
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("a prompt must not be empty", repr(prompts))
