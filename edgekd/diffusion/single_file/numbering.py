"""How a U-Net's blocks are numbered in the original layout.

The authors' models have two layers in each level of the encoder, and three blocks of numbers: two
layers and the downsampling. A U-Net with fewer layers is numbered in two ways: without holes, as
their code counts, and with three numbers a level all the same, as diffusers' script and
stable-diffusion.cpp do. Its upsampling then stands alone in the third block of a decoder's level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

# Numbers a level in the layout with holes.
LEVEL = 3
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.*)")

T = TypeVar("T")


def without_holes(tensors: Mapping[str, T]) -> dict[str, T]:
    """A U-Net's tensors in the numbering that their authors' code gives, without prefix."""
    blocks = {match.groups() for name in tensors if (match := _BLOCK.fullmatch(name))}
    inputs = {int(number) for side, number, *_ in blocks if side == "input"}
    if inputs == set(range(len(inputs))):
        return dict(tensors)
    outputs = [(int(block[1]), block[2], block[3]) for block in blocks if block[0] == "output"]
    layers = {number for number, place, _ in outputs if place == "0"}
    attending = {number for number, place, _ in outputs if place == "1"} & layers
    dense = {
        side: {old: new for new, old in enumerate(sorted(numbers))}
        for side, numbers in (("input", inputs), ("output", layers))
    }

    def renamed(name: str) -> str:
        match = _BLOCK.fullmatch(name)
        if match is None:
            return name
        side, number, place, rest = match[1], int(match[2]), match[3], match[4]
        if number not in dense[side]:  # the upsampling: it joins the layer before it
            number = max((old for old in dense[side] if old < number), default=number)
            place = "2" if number in attending else "1"
        return f"{side}_blocks.{dense[side].get(number, number)}.{place}.{rest}"

    return {renamed(name): tensor for name, tensor in tensors.items()}
