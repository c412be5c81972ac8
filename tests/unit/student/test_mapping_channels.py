"""Channels of narrower students, checked from outside.

- Choosing channels must not depend on their order: a teacher with its channels permuted (it
  computes the same function, which is asserted) gives a student that computes the same.
- A small net hidden inside a big one must be found again, bit for bit.

The permutation and the hiding are written here from the layer names, apart from the code.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fixtures.unets import NARROW, THREE, WIDE_TAIL
from torch import Tensor

from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student

MakeUNet = Callable[..., Any]
Predict = Callable[[Any], Tensor]


def axes_of(name: str, widths: tuple[int, ...]) -> list[list[str]]:
    """The channel sets along each dimension of a U-Net tensor; "" where nothing can move.

    `s0` is the residual stream of stage 0, `<layer>.h` a residual block's hidden channels,
    `<layer>.i`, `.f` and `.a` a transformer's inner channels, feed-forward channels and heads.
    """
    last = len(widths) - 1
    if name.startswith(("conv_in", "conv_norm_out")):
        return [["s0"], [""]]
    if name.startswith("conv_out"):
        return [[""], ["s0"]]
    if name.startswith(("time_embedding", "add_embedding")):
        return [[""], [""]]  # the sinusoid's order is fixed
    match = re.match(r"(down|up|mid)_blocks?\.(\d+\.)?(.*)", name)
    way, number, rest = match.groups()
    stage = last
    if way != "mid":
        block = int(number.rstrip("."))
        stage = block if way == "down" else last - block
    stream = f"s{stage}"
    layer = name.rsplit(".", 1)[0]
    if "samplers" in rest:
        return [[stream], [stream]]
    if rest.startswith("resnets"):
        pair, part = int(rest.split(".")[1]), rest.split(".")[2]
        resnet = layer.rpartition(".")[0]
        source = [stream]
        if way == "down" and pair == 0:
            source = [f"s{max(stage - 1, 0)}"]
        if way == "up":
            pairs = 3
            main = f"s{min(stage + 1, last)}" if pair == 0 else stream
            skip = f"s{max(stage - 1, 0)}" if pair == pairs - 1 else stream
            source = [main, skip]
        hidden = [f"{resnet}.h"]
        return {
            "norm1": [source],
            "conv1": [hidden, source],
            "time_emb_proj": [hidden, [""]],
            "norm2": [hidden],
            "conv2": [[stream], hidden],
            "conv_shortcut": [[stream], source],
        }[part]
    transformer = ".".join(name.split(".")[: 3 if way == "mid" else 4])
    inner = [f"{transformer}.i"]
    if re.search(r"attentions\.\d+\.norm\.", name):
        return [[stream]]
    if ".proj_in." in name:
        return [inner, [stream]]
    if ".proj_out." in name:
        return [[stream], inner]
    block = name.split(".norm")[0].split(".attn")[0].split(".ff")[0]
    if re.search(r"blocks\.\d+\.norm\d", name):
        return [inner]
    if ".attn" in name:
        attention = name.split(".to_")[0]
        keys = [""] if ".attn2.to_k" in name or ".attn2.to_v" in name else inner
        heads = [f"{attention}.a"]
        return [inner, heads] if ".to_out." in name else [heads, keys]
    wide = [f"{block}.f"]
    return [wide + wide, inner] if ".net.0." in name else [inner, wide]


def sized_axes(unet: Any) -> Iterator[tuple[str, Tensor, list[list[tuple[str, int]]]]]:
    """Every tensor with the channel sets along its dimensions and their sizes."""
    widths = tuple(unet.config.block_out_channels)
    for name, value in unet.state_dict().items():
        axes = axes_of(name, widths)[: value.dim()]
        sized = []
        for dim, axis in enumerate(axes):
            sizes = [widths[int(s[1:])] if re.fullmatch(r"s\d", s) else 0 for s in axis]
            rest = value.shape[dim] - sum(sizes)
            free = sizes.count(0)
            sized.append([(s, size or rest // free) for s, size in zip(axis, sizes, strict=True)])
        yield name, value, sized


def gather(value: Tensor, axes: list[list[tuple[str, int]]], order: dict[str, Tensor]) -> Tensor:
    for dim, axis in enumerate(axes):
        offset, parts = 0, []
        for space, size in axis:
            parts.append(order.get(space, torch.arange(size)) + offset)
            offset += size
        value = value.index_select(dim, torch.cat(parts))
    return value


def permuted(unet: Any, tied: dict[str, str], head_size: int) -> Any:
    """The same function with its channels in another order."""
    generator = torch.Generator().manual_seed(5)
    order: dict[str, Tensor] = {"s0": torch.arange(unet.config.block_out_channels[0])}
    for _, _, axes in sized_axes(unet):
        for axis in axes:
            for space, size in axis:
                if not space or tied.get(space, space) in order:
                    continue
                unit = head_size if space.endswith(".a") else 1
                units = torch.randperm(size // unit, generator=generator)
                whole = units[:, None] * unit + torch.arange(unit)
                order[tied.get(space, space)] = whole.reshape(-1)
    order |= {space: order[pool] for space, pool in tied.items() if pool in order}
    other = copy.deepcopy(unet)
    other.load_state_dict(
        {name: gather(value, axes, order) for name, value, axes in sized_axes(unet)}
    )
    return other


WHOLE = StageArch()
SHORT = StageArch(down=(0,), up=(0, 2))


@pytest.mark.parametrize(
    ("config", "tied", "stages", "mid"),
    [
        (THREE, {}, NARROW, True),
        (THREE, {}, NARROW, False),
        (THREE, {}, (WHOLE, SHORT, StageArch(width=40)), True),
        (WIDE_TAIL, {"s2": "s1"}, (WHOLE, WHOLE, StageArch(width=24)), True),
        (WIDE_TAIL, {"s2": "s1"}, (WHOLE, *(StageArch(width=24),) * 2), True),
        (WIDE_TAIL, {"s2": "s1"}, (WHOLE, StageArch(width=24), StageArch(down=(1,), up=(1, 2))),
         True),
    ],
    ids=["narrow", "narrow, no mid", "narrow, fewer pairs",
         "identity shortcut cut", "tied stages", "tied stages, pairs moved"],
)  # fmt: skip
def test_the_order_of_the_teachers_channels_does_not_matter(
    config, tied, stages, mid, make_unet, predict
):
    # One GroupNorm group: the order of channels then means nothing to the norms either.
    teacher = make_unet(**{**config, "norm_num_groups": 1})
    other = permuted(teacher, tied, head_size=8)
    torch.testing.assert_close(predict(other), predict(teacher), rtol=1e-4, atol=1e-5)
    moved = "down_blocks.1.resnets.0.conv2.weight"
    assert not torch.equal(other.state_dict()[moved], teacher.state_dict()[moved])
    arch = StudentArch(stages=stages, mid=mid)
    student, twin = build_student(teacher, arch), build_student(other, arch)
    torch.testing.assert_close(predict(twin), predict(student), rtol=1e-4, atol=1e-5)


def test_a_small_net_inside_a_big_one_is_found_again(make_unet):
    """Weak weights everywhere but in the places of the small net: exactly those are chosen."""
    widths, small_widths, groups, head_size = (16, 32, 48), (16, 24, 32), 4, 8
    big = make_unet(1, **{**THREE, "block_out_channels": widths})
    small = make_unet(
        2, **{**THREE, "block_out_channels": small_widths, "attention_head_dim": (2, 3, 4)}
    )
    smaller = {32: 24, 48: 32, 128: 96, 192: 128}
    generator = torch.Generator().manual_seed(3)
    places: dict[str, Tensor] = {}
    hidden = {name: value.clone() * 1e-4 for name, value in big.state_dict().items()}
    inner = dict(small.state_dict())
    for name, _, axes in sized_axes(big):
        for axis in axes:
            for space, size in axis:
                if not space or space in places:
                    continue
                stage = stage_of(space)
                keep = size if stage == 0 else smaller[size]
                unit = head_size if space.endswith(".a") else 1
                parts = groups if space.endswith(".h") or space.startswith("s") else 1
                places[space] = pick(size, keep, unit, parts, generator)
        target = hidden[name]
        index = []
        for axis in axes:
            offset, rows = 0, []
            for space, size in axis:
                rows.append(places.get(space, torch.arange(size)) + offset)
                offset += size
            index.append(torch.cat(rows))
        index += [torch.arange(size) for size in target.shape[len(index) :]]
        target[torch.meshgrid(*index, indexing="ij")] = inner[name]
    big.load_state_dict(hidden)
    arch = StudentArch(stages=tuple(StageArch(width=width) for width in small_widths))
    found = build_student(big, arch).state_dict()
    assert set(found) == set(inner)
    for name, value in inner.items():
        assert torch.equal(found[name], value), name


def stage_of(space: str) -> int:
    if space.startswith("s"):
        return int(space[1:])
    way, block = re.match(r"(down|up|mid)_blocks?\.(\d+)?", space).groups()  # type: ignore[union-attr]
    return 2 if way == "mid" else int(block) if way == "down" else 2 - int(block)


def pick(size: int, keep: int, unit: int, parts: int, generator: torch.Generator) -> Tensor:
    """Random rising channels: whole units, equally many in each part."""
    per_part, kept = size // unit // parts, keep // unit // parts
    rows = [
        torch.randperm(per_part, generator=generator)[:kept].sort().values + part * per_part
        for part in range(parts)
    ]
    return (torch.cat(rows)[:, None] * unit + torch.arange(unit)).reshape(-1)
