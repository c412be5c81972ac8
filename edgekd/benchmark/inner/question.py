"""What two U-Nets are asked, and what is seen in each of them.

N inputs, T timesteps, [C,h,w] latents, D channels of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekd.metrics.fid import Array
from edgekd.metrics.metric import Floats, Images
from edgekd.reading import read_object
from edgekd.student.pairs import BlockPair, last_layer, paired_blocks
from edgekd.student.shape import UNetShape, read_shape

# Attention maps of more pixels a side are averaged down to this.
MAX_MAP_SIDE = 16


@dataclass(frozen=True)
class Held:
    """Held-out images with their captions, and how noisy they are made.

    Attributes:
        teacher: folder of the pipeline whose VAE encodes them.
        images: [N,H,W,3].
        noise_seeds: N of them.
        timesteps: how many, evenly spread over the noise schedule.
        attended: captions whose attention is looked at, the first ones.
    """

    teacher: Path
    images: Images
    captions: tuple[str, ...]
    noise_seeds: tuple[int, ...]
    timesteps: int
    batch_size: int
    attended: int


@dataclass(frozen=True)
class Inputs:
    """What every U-Net is given, whosever it is.

    Attributes:
        noisy: [T,N,C,h,w].
        timesteps: T of them.
        side: of the pictures, in pixels.
        attended: the first so many captions' attention is looked at.
    """

    noisy: Floats
    captions: tuple[str, ...]
    timesteps: tuple[int, ...]
    side: int
    batch_size: int
    attended: int

    @property
    def middle(self) -> int:
        """Index of the middle timestep."""
        return len(self.timesteps) // 2

    @property
    def passes(self) -> int:
        """Of one input through a U-Net, all together."""
        return len(self.timesteps) * len(self.captions)


@dataclass(frozen=True)
class Question:
    """Where to look in one pipeline's U-Net.

    Attributes:
        guidance_scale: told to a U-Net that takes it as an input.
        points: of feature maps; see `edgekd.diffusion.taps`.
        attentions: points whose maps are kept.
    """

    path: Path
    guidance_scale: float
    points: tuple[str, ...]
    attentions: tuple[str, ...]


@dataclass(frozen=True)
class WordMap:
    """Where an attention looks for a word: [h,w]."""

    point: str
    caption: str
    word: str
    map: Array


@dataclass(frozen=True)
class Seen:
    """What was found in one U-Net.

    Attributes:
        features: [T,N,D] by point, means over all positions.
    """

    features: Mapping[str, Floats]
    maps: tuple[WordMap, ...]


def unet_shape(path: Path) -> UNetShape:
    """The layout of a pipeline folder's U-Net.

    Raises:
        InputError: it is not of Stable Diffusion's.
    """
    return read_shape(read_object(path / "unet" / "config.json"))


def block_points(shape: UNetShape) -> tuple[str, ...]:
    """Outputs of all blocks, in the order in which they are computed."""
    down = [f"down_blocks.{s}" for s in range(shape.stages)]
    mid = ["mid_block"] if shape.mid is not None else []
    return (*down, *mid, *(f"up_blocks.{s}" for s in range(shape.stages)))


def all_points(shape: UNetShape) -> tuple[str, ...]:
    """Those of blocks, and the last layers before downsampling, which may stand for a block."""
    layers = [last_layer(shape, s) for s in range(shape.stages) if shape.down[s]]
    return (*block_points(shape), *layers)


@dataclass(frozen=True)
class Pairing:
    """Which places of two U-Nets are compared.

    Attributes:
        attention: points `(teacher, student)` whose maps are compared; None: there are none.
    """

    teacher_blocks: tuple[str, ...]
    student_blocks: tuple[str, ...]
    blocks: tuple[BlockPair, ...]
    attention: tuple[str, str] | None


def pair_up(teacher: UNetShape, student: UNetShape, side: int) -> Pairing:
    """What corresponds in two layouts.

    Args:
        side: of the latents.

    Raises:
        InputError: the student has more stages than the teacher.
    """
    pairs = paired_blocks(student, teacher)
    both = [
        (theirs, ours, level)
        for pair in pairs
        for theirs, level in [_last_attention(teacher, pair.teacher)]
        for ours, _ in [_last_attention(student, pair.student)]
        if theirs is not None and ours is not None
    ]
    # The finest maps that need no averaging, those of the way up where there are both.
    best = min(reversed(both), key=lambda one: _excess(side >> one[2]), default=None)
    return Pairing(
        block_points(teacher),
        block_points(student),
        tuple(pairs),
        None if best is None else (str(best[0]), str(best[1])),
    )


def _excess(side: int) -> tuple[bool, int]:
    """Orders sides: 16, 8, …, then 32, 64, …"""
    return side > MAX_MAP_SIDE, abs(side - MAX_MAP_SIDE)


def _last_attention(shape: UNetShape, point: str) -> tuple[str | None, int]:
    """The last attention to the text within a block, and the halvings of its latents."""
    kind, _, rest = point.partition(".")
    if kind == "mid_block":
        depths, level, block = [shape.mid or 0], shape.stages - 1, "mid_block"
    else:
        number = int(rest.split(".")[0])
        level = number if kind == "down_blocks" else shape.stages - 1 - number
        depths = list((shape.down if kind == "down_blocks" else shape.up)[level])
        block = f"{kind}.{number}"
    if not depths or not depths[-1]:
        return None, level
    layer = f"{block}.attentions.{len(depths) - 1}.transformer_blocks.{depths[-1] - 1}"
    return f"{layer}.attn2", level


def spread_timesteps(count: int, total: int) -> tuple[int, ...]:
    """The middles of equal parts of a noise schedule."""
    return tuple((2 * i + 1) * total // (2 * count) for i in range(count))
