"""The blocks that a student's U-Net is made of, as small graphs of their own.

A block is known by its sizes alone: the second pair of a stage and the third are one block where
they have the same widths. The sum of a U-Net's blocks is then a sum over few distinct ones, each of
which is measured once, with random weights.

Shapes: p positions of the block's map, w channels, L text tokens.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from edgekd.schema import Section
from edgekd.student.plan import Pair, StudentPlan

_KERNEL = 9  # of a 3x3 convolution


BlockKind = Literal["residual", "transformer", "downsampler", "upsampler", "stem", "head"]


class Block(Section):
    """One block of a U-Net."""

    kind: BlockKind
    inputs: int = Field(..., ge=1, description="channels of its input")
    outputs: int = Field(..., ge=1, description="channels of its output")
    height: int = Field(..., ge=1, description="of its input's map")
    width: int = Field(..., ge=1, description="of its input's map")
    groups: int = Field(..., ge=1, description="of GroupNorm")
    condition: int = Field(0, ge=0, description="width of the time embedding, or of the text")
    heads: int = Field(0, ge=0, description="of a transformer")
    depth: int = Field(0, ge=0, description="blocks of a transformer")
    tokens: int = Field(0, ge=0, description="of the text that a transformer attends to")
    linear: bool = Field(False, description="a transformer's projections are no convolutions")
    kernel: int = Field(3, ge=1, description="side of the kernel of the stem or the head")

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @functools.cached_property
    def sizes(self) -> Sizes:
        """Its work; see `Sizes`."""
        return _SIZES[self.kind](self)


@dataclass(frozen=True)
class Sizes:
    """The work of a block or of a U-Net: what its time is interpolated in.

    Attributes:
        macs: multiply-accumulates at batch 1.
        elements: numbers that its layers read and write besides weights.
        parameters: of its weights.
    """

    macs: int
    elements: int
    parameters: int

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(
            self.macs + other.macs,
            self.elements + other.elements,
            self.parameters + other.parameters,
        )

    def times(self, count: int) -> Sizes:
        return Sizes(self.macs * count, self.elements * count, self.parameters * count)


def _residual(block: Block) -> Sizes:
    into, out, p = block.inputs, block.outputs, block.pixels
    weights = _KERNEL * (into * out + out * out) + (into * out if into != out else 0)
    biases = 2 * out + (out if into != out else 0)
    time = block.condition * out
    norms = 2 * into + 2 * out
    return Sizes(
        weights * p + time, (3 * into + 6 * out) * p, weights + biases + time + out + norms
    )


def _transformer(block: Block) -> Sizes:
    w, p, text, n = block.outputs, block.pixels, block.condition, block.tokens
    weights = 4 * w * w + 2 * w * w + 2 * text * w + 12 * w * w
    biases = 2 * w + 9 * w + 6 * w
    products = 2 * p * p * w + 2 * p * n * w
    macs = 18 * w * w * p + 2 * text * w * n + products
    elements = 26 * w * p + block.heads * p * (p + n)
    return Sizes(
        2 * w * w * p + block.depth * macs,
        4 * w * p + block.depth * elements,
        2 * (w * w + w) + 2 * w + block.depth * (weights + biases),
    )


def _sampler(block: Block) -> Sizes:
    w, p = block.outputs, block.pixels
    down = block.kind == "downsampler"
    after = -(-block.height // 2) * -(-block.width // 2) if down else 4 * p
    weights = _KERNEL * w * w
    return Sizes(weights * after, w * (p + (1 if down else 3) * after), weights + w)


def _stem(block: Block) -> Sizes:
    w, p, time = block.outputs, block.pixels, block.condition
    weights = block.kernel**2 * block.inputs * w
    embedding = w * time + time * time
    return Sizes(
        weights * p + embedding, (block.inputs + w) * p, weights + w + embedding + 2 * time
    )


def _head(block: Block) -> Sizes:
    w, p = block.inputs, block.pixels
    weights = block.kernel**2 * w * block.outputs
    return Sizes(weights * p, (4 * w + block.outputs) * p, weights + block.outputs + 2 * w)


_SIZES: dict[BlockKind, Callable[[Block], Sizes]] = {
    "residual": _residual,
    "transformer": _transformer,
    "downsampler": _sampler,
    "upsampler": _sampler,
    "stem": _stem,
    "head": _head,
}


def unet_blocks(plan: StudentPlan, latent_size: tuple[int, int], tokens: int) -> Counter[Block]:
    """The blocks of a student's U-Net, and how often it has each.

    Left out is what no student changes and no block of its own: added conditions of XL, the
    concatenations of the up path, the residual sums between blocks.

    Args:
        latent_size: height and width of the latents.
        tokens: length of `encoder_hidden_states`.
    """
    walk = _Walk(plan, latent_size, tokens)
    return Counter(block for s in range(len(plan.stages)) for block in walk.stage(s))


def stage_blocks(
    plan: StudentPlan, s: int, latent_size: tuple[int, int], tokens: int
) -> Counter[Block]:
    """The blocks of one stage; the outermost has stem and head, the innermost the mid block.

    They hang on the stage, the widths of its neighbours, and on what else is said here.
    """
    return Counter(_Walk(plan, latent_size, tokens).stage(s))


# Made and checked once: a search walks thousands of plans.
_known = functools.lru_cache(maxsize=4096)(Block)


class _Walk:
    """Walks a plan as `edgekd.student.layout` does, block by block."""

    def __init__(self, plan: StudentPlan, latent_size: tuple[int, int], tokens: int) -> None:
        self.plan, self.shape, self.tokens = plan, plan.teacher, tokens
        self.widths = [stage.width for stage in plan.stages]
        self.heads = plan.heads
        self.sides = [latent_size]
        for _ in self.widths[1:]:
            height, width = self.sides[-1]
            self.sides.append((-(-height // 2), -(-width // 2)))

    def stage(self, s: int) -> Iterator[Block]:
        yield from self._down(s)
        if s == 0:
            yield from self._ends()
        if s == self.plan.last and self.plan.mid is not None:
            yield from self._mid(len(self.plan.mid))
        yield from self._up(s)

    def _ends(self) -> Iterator[Block]:
        shape, width = self.shape, self.widths[0]
        stem = {"condition": shape.time_dim, "kernel": shape.conv_in_kernel}
        yield self._block("stem", (shape.in_channels, width), 0, **stem)
        yield self._block("head", (width, shape.out_channels), 0, kernel=shape.conv_out_kernel)

    def _down(self, s: int) -> Iterator[Block]:
        width = self.widths[s]
        for i, pair in enumerate(self.plan.stages[s].down):
            yield self._residual(self.widths[max(s - 1, 0)] if i == 0 else width, s)
            yield from self._attention(pair, s)
        if s < self.plan.last:
            yield self._sampler("downsampler", s)

    def _up(self, s: int) -> Iterator[Block]:
        for i, pair in enumerate(self.plan.stages[s].up):
            read, _ = self.plan.up_inputs(s, i)
            yield self._residual(self.widths[read.main] + self.widths[read.skip], s)
            yield from self._attention(pair, s)
        if s > 0:
            yield self._sampler("upsampler", s)

    def _mid(self, depth: int) -> Iterator[Block]:
        last = self.plan.last
        yield self._residual(self.widths[last], last)
        if depth:
            yield self._transformer(depth, last, self.shape.stages - 1)
            yield self._residual(self.widths[last], last)

    def _attention(self, pair: Pair, s: int) -> Iterator[Block]:
        if pair.blocks:
            yield self._transformer(len(pair.blocks), s, s)

    def _residual(self, inputs: int, s: int) -> Block:
        channels = inputs, self.widths[s]
        return self._block("residual", channels, s, condition=self.shape.time_dim)

    def _transformer(self, depth: int, s: int, stage: int) -> Block:
        """A transformer in stage `s`; `stage`: the teacher's that sets its text width."""
        width = self.widths[s]
        return self._block(
            "transformer",
            (width, width),
            s,
            condition=self.shape.cross_dims[stage],
            heads=self.heads[s],
            depth=depth,
            tokens=self.tokens,
            linear=self.shape.linear_projection,
        )

    def _sampler(self, kind: BlockKind, s: int) -> Block:
        width = self.widths[s]
        return self._block(kind, (width, width), s)

    def _block(self, kind: BlockKind, channels: tuple[int, int], s: int, **fields: int) -> Block:
        """A block of stage `s`.

        Args:
            channels: in and out.
        """
        (inputs, outputs), (height, width) = channels, self.sides[s]
        return _known(
            kind=kind,
            inputs=inputs,
            outputs=outputs,
            height=height,
            width=width,
            groups=self.shape.groups,
            **fields,
        )
