"""Every layer of a student's U-Net: its name, its teacher layer and what its axes run over.

Legend: a `Space` is a set of channels of which the student keeps some, the
same ones wherever the space occurs. An axis of a weight is one space, or two
of them side by side (the halves of a concatenation; value and gate of GEGLU).

Spaces of one stage: its *stream*, one for all blocks of the stage because
residuals tie them; the hidden channels of each residual block; and of each
transformer its inner stream, the heads of each attention and the inner
channels of each feed-forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from edgekd.student.plan import Pair, StudentPlan

# Pseudo-source of a shortcut convolution that the teacher does not have because its widths
# are equal there: the shortcut is the identity.
IDENTITY = "(identity)"


class Tokens(Enum):
    """How often a layer is applied to one sample."""

    PIXELS = "once per latent pixel at the layer's level"
    TEXT = "once per text token"
    ONCE = "once"


@dataclass(frozen=True)
class Space:
    """A set of channels.

    Attributes:
        name: unique.
        teacher: channels of the teacher.
        student: channels that the student keeps.
        unit: channels that are kept or dropped together (the size of a head).
        groups: GroupNorm groups, each of which keeps the same number; 1: no such tie.
        pool: spaces of one pool are ranked by one common score, so that channels tied by an
            identity shortcut between stages are kept together.
    """

    name: str
    teacher: int
    student: int
    unit: int = 1
    groups: int = 1
    pool: str = ""


Axis = tuple[Space, ...]


@dataclass(frozen=True)
class Layer:
    """One layer with a weight.

    Attributes:
        name: in the student, without `.weight`.
        source: the teacher's layer, or `IDENTITY`.
        axes: of the weight; a norm has one, a linear layer two, a convolution four.
        bias: whether it has one; it runs over the first axis.
        level: halvings of the latent's side before its output.
        tokens: how often it is applied.
    """

    name: str
    source: str
    axes: tuple[Axis, ...]
    bias: bool
    level: int
    tokens: Tokens = Tokens.PIXELS

    def shape(self) -> tuple[int, ...]:
        """The student's weight shape."""
        return tuple(sum(space.student for space in axis) for axis in self.axes)


def fixed(size: int) -> Axis:
    """An axis that no student changes."""
    return (Space("", size, size),)


def unet_layers(plan: StudentPlan) -> Iterator[Layer]:
    """All layers of the student's U-Net."""
    return _UNet(plan).layers()


class _UNet:
    """Walks a plan; holds the stages' streams."""

    def __init__(self, plan: StudentPlan) -> None:
        self.plan = plan
        self.shape = plan.teacher
        self.streams = [self._stream(s) for s in range(len(plan.stages))]
        self.time = fixed(plan.teacher.time_dim)

    def _stream(self, s: int) -> Space:
        # Where the widths of two stages are equal, the shortcut between them is the identity.
        first = s
        while first > 0 and self.shape.widths[first - 1] == self.shape.widths[s]:
            first -= 1
        return Space(
            f"stages.{s}",
            self.shape.widths[s],
            self.plan.stages[s].width,
            groups=self.shape.groups,
            pool=f"stages.{first}",
        )

    def layers(self) -> Iterator[Layer]:
        shape, stem = self.shape, (self.streams[0],)
        kernel = (fixed(shape.conv_in_kernel),) * 2
        yield Layer("conv_in", "conv_in", (stem, fixed(shape.in_channels), *kernel), True, 0)
        yield from self._time()
        for s in range(len(self.streams)):
            yield from self._down(s)
        if self.plan.mid is not None:
            yield from self._mid(self.plan.mid)
        for s in reversed(range(len(self.streams))):
            yield from self._up(s)
        yield Layer("conv_norm_out", "conv_norm_out", (stem,), True, 0)
        kernel = (fixed(shape.conv_out_kernel),) * 2
        yield Layer("conv_out", "conv_out", (fixed(shape.out_channels), stem, *kernel), True, 0)

    def _time(self) -> Iterator[Layer]:
        stem = (self.streams[0],)
        layers = [
            ("time_embedding.linear_1", (self.time, stem), True),
            ("time_embedding.linear_2", (self.time, self.time), True),
        ]
        if self.shape.time_cond_dim is not None:
            condition = (stem, fixed(self.shape.time_cond_dim))
            layers.append(("time_embedding.cond_proj", condition, False))
        if self.shape.added_dim is not None:
            layers.append(
                ("add_embedding.linear_1", (self.time, fixed(self.shape.added_dim)), True)
            )
            layers.append(("add_embedding.linear_2", (self.time, self.time), True))
        for name, axes, bias in layers:
            yield Layer(name, name, axes, bias, 0, Tokens.ONCE)

    def _down(self, s: int) -> Iterator[Layer]:
        block, stream = f"down_blocks.{s}", self.streams[s]
        pairs = self.plan.stages[s].down
        for i, pair in enumerate(pairs):
            source = self.streams[max(s - 1, 0)] if i == 0 else stream
            # Only pair 0 may change the width; elsewhere the teacher's shortcut is the identity.
            teacher_in = self.shape.widths[max(s - 1, 0) if pair.index == 0 else s]
            yield from self._resnet(
                f"{block}.resnets.{i}", f"{block}.resnets.{pair.index}", (source,),
                teacher_in != stream.teacher, stream, s,
            )  # fmt: skip
            yield from self._attention(block, block, i, pair, stream, s)
        if s < self.plan.last:
            name = f"{block}.downsamplers.0.conv"
            yield Layer(name, name, _conv((stream,), (stream,)), True, s + 1)

    def _up(self, s: int) -> Iterator[Layer]:
        block = f"up_blocks.{self.plan.last - s}"
        source = f"up_blocks.{self.shape.stages - 1 - s}"
        stream = self.streams[s]
        for i, pair in enumerate(self.plan.stages[s].up):
            mine, theirs = self.plan.up_inputs(s, i)
            origin = f"{source}.resnets.{pair.index}"
            halves = (
                self._half(f"{origin}.main", mine.main, theirs.main),
                self._half(f"{origin}.skip", mine.skip, theirs.skip),
            )
            yield from self._resnet(f"{block}.resnets.{i}", origin, halves, True, stream, s)
            yield from self._attention(block, source, i, pair, stream, s)
        if s > 0:
            layer = "upsamplers.0.conv"
            axes = _conv((stream,), (stream,))
            yield Layer(f"{block}.{layer}", f"{source}.{layer}", axes, True, s - 1)

    def _half(self, name: str, mine: int, theirs: int) -> Space:
        """Half of a concatenation. Removed blocks may put another stage's channels here.

        Where the teacher's half has as many channels as the stage that now feeds it, they
        keep their places, as in BK-SDM. Otherwise the half is a space of its own: its most
        important input channels are kept.
        """
        stream = self.streams[mine]
        offered = self.shape.widths[theirs]
        if offered == stream.teacher:
            return stream
        return Space(name, offered, stream.student, pool=name)

    def _mid(self, blocks: tuple[int, ...]) -> Iterator[Layer]:
        innermost, last = self.shape.stages - 1, self.plan.last
        stream = self.streams[last]
        if self.shape.widths[innermost] != stream.teacher:
            stream = Space(
                "mid", self.shape.widths[innermost], stream.student,
                groups=self.shape.groups, pool="mid",
            )  # fmt: skip
        for i in (0, 1) if blocks else (0,):
            name = f"mid_block.resnets.{i}"
            yield from self._resnet(name, name, (stream,), False, stream, last)
        if blocks:
            name = "mid_block.attentions.0"
            yield from self._transformer(name, name, blocks, stream, last, innermost)

    def _resnet(
        self, name: str, source: str, inputs: Axis, shortcut: bool, stream: Space, level: int
    ) -> Iterator[Layer]:
        """A residual block; `shortcut`: whether the teacher's has a shortcut convolution."""
        hidden = Space(
            f"{source}.hidden", stream.teacher, stream.student,
            groups=self.shape.groups, pool=f"{source}.hidden",
        )  # fmt: skip
        yield Layer(f"{name}.norm1", f"{source}.norm1", (inputs,), True, level)
        yield Layer(f"{name}.conv1", f"{source}.conv1", _conv((hidden,), inputs), True, level)
        time = ((hidden,), self.time)
        projection = "time_emb_proj"
        yield Layer(
            f"{name}.{projection}", f"{source}.{projection}", time, True, level, Tokens.ONCE
        )
        yield Layer(f"{name}.norm2", f"{source}.norm2", ((hidden,),), True, level)
        yield Layer(f"{name}.conv2", f"{source}.conv2", _conv((stream,), (hidden,)), True, level)
        if sum(space.student for space in inputs) != stream.student:
            origin = f"{source}.conv_shortcut" if shortcut else IDENTITY
            axes = _conv((stream,), inputs, kernel=1)
            yield Layer(f"{name}.conv_shortcut", origin, axes, True, level)

    def _attention(
        self, block: str, source: str, i: int, pair: Pair, stream: Space, s: int
    ) -> Iterator[Layer]:
        if pair.blocks:
            origin = f"{source}.attentions.{pair.index}"
            yield from self._transformer(
                f"{block}.attentions.{i}", origin, pair.blocks, stream, s, s
            )

    def _transformer(
        self, name: str, source: str, blocks: tuple[int, ...], stream: Space, level: int, stage: int
    ) -> Iterator[Layer]:
        """A transformer; `stage`: the teacher's stage that sets its heads and text width."""
        inner = Space(f"{source}.inner", stream.teacher, stream.student, pool=f"{source}.inner")
        axes: tuple[Axis, Axis] = ((inner,), (stream,))
        back: tuple[Axis, Axis] = ((stream,), (inner,))
        ones = () if self.shape.linear_projection else (fixed(1), fixed(1))
        yield Layer(f"{name}.norm", f"{source}.norm", ((stream,),), True, level)
        yield Layer(f"{name}.proj_in", f"{source}.proj_in", (*axes, *ones), True, level)
        for i, block in enumerate(blocks):
            yield from self._block(
                f"{name}.transformer_blocks.{i}", f"{source}.transformer_blocks.{block}",
                inner, level, stage,
            )  # fmt: skip
        yield Layer(f"{name}.proj_out", f"{source}.proj_out", (*back, *ones), True, level)

    def _block(
        self, name: str, source: str, inner: Space, level: int, stage: int
    ) -> Iterator[Layer]:
        text = fixed(self.shape.cross_dims[stage])
        for norm in ("norm1", "norm2", "norm3"):
            yield Layer(f"{name}.{norm}", f"{source}.{norm}", ((inner,),), True, level)
        for attention, keys in (("attn1", (inner,)), ("attn2", text)):
            heads = Space(
                f"{source}.{attention}", inner.teacher, inner.student,
                unit=self.shape.head_size(stage), pool=f"{source}.{attention}",
            )  # fmt: skip
            tokens = Tokens.PIXELS if attention == "attn1" else Tokens.TEXT
            path, origin = f"{name}.{attention}", f"{source}.{attention}"
            query, key = ((heads,), (inner,)), ((heads,), keys)
            yield Layer(f"{path}.to_q", f"{origin}.to_q", query, False, level)
            yield Layer(f"{path}.to_k", f"{origin}.to_k", key, False, level, tokens)
            yield Layer(f"{path}.to_v", f"{origin}.to_v", key, False, level, tokens)
            out = ((inner,), (heads,))
            yield Layer(f"{path}.to_out.0", f"{origin}.to_out.0", out, True, level)
        wide = Space(f"{source}.ff", 4 * inner.teacher, 4 * inner.student, pool=f"{source}.ff")
        into, back = ((wide, wide), (inner,)), ((inner,), (wide,))
        yield Layer(f"{name}.ff.net.0.proj", f"{source}.ff.net.0.proj", into, True, level)
        yield Layer(f"{name}.ff.net.2", f"{source}.ff.net.2", back, True, level)


def _conv(out: Axis, inputs: Axis, kernel: int = 3) -> tuple[Axis, ...]:
    return (out, inputs, fixed(kernel), fixed(kernel))
