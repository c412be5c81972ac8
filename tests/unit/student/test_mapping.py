"""Inheritance is checked from outside: by the models' outputs, not by the map's own rules.

- Removing blocks must equal removing the same modules from the stock teacher.
- Choosing channels must not depend on their order: a teacher with its channels permuted (it
  computes the same function, which is asserted) gives a student that computes the same.
- A small net hidden inside a big one must be found again, bit for bit.

The permutation and the hiding are written here from the layer names, apart from the code.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.libraries import diffusers
from edgekd.student.arch import StageArch, StudentArch, full, preset
from edgekd.student.build import build_student
from edgekd.student.importance import magnitude_importance
from edgekd.student.layout import Space
from edgekd.student.mapping import IDENTITY, ZEROS, feature_pairs, select, tensor_map
from edgekd.teacher.load import load_model
from edgekd.teacher.taps import Taps, list_points, output_tensor


def make_unet(seed: int = 0, **config: Any) -> Any:
    """A U-Net with no two weights alike, not even norms, so that a wrong index shows."""
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**config)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in unet.state_dict().items():
        fan_in = max(value[0].numel(), 1)
        state[name] = torch.randn(value.shape, generator=generator) * (
            fan_in**-0.5 if value.dim() > 1 else 0.3
        ) + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    unet.load_state_dict(state, strict=True, assign=True)
    return unet.eval()


def predict(unet: Any, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = unet.config.sample_size
    latents = torch.randn(2, 4, size, size, generator=generator)
    text = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator)
    added = None
    if unet.config.addition_embed_type == "text_time":
        pooled = unet.config.projection_class_embeddings_input_dim
        pooled -= 6 * unet.config.addition_time_embed_dim
        added = {
            "text_embeds": torch.randn(2, pooled, generator=generator),
            "time_ids": torch.ones(2, 6),
        }
    with torch.no_grad():
        return output_tensor(
            unet(latents, torch.tensor([10, 700]), text, added_cond_kwargs=added)
        ).clone()


FOUR = {
    "sample_size": 8,
    "block_out_channels": (16, 16, 32, 32),
    "layers_per_block": 2,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
}
THREE = {
    **FOUR,
    "block_out_channels": (16, 32, 48),
    "attention_head_dim": (2, 4, 6),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 2, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 2),
}


# BK-SDM's mapping, by hand: student up pairs 0 and 1 are the teacher's 0 and 2; in Tiny the
# student's up blocks are the teacher's next ones.
@pytest.mark.parametrize(
    ("name", "shift"), [("bk-sdm-base", 0), ("bk-sdm-small", 0), ("bk-sdm-tiny", 1)]
)
@pytest.mark.parametrize("fixture", ["tiny_teacher", "tiny_sd2_teacher"])
def test_bk_sdm_mapping(
    fixture: str, name: str, shift: int, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(fixture)
    teacher = load_model(path, "unet")
    student = build_student(teacher, preset(name, teacher.config))
    reference, blocks = teacher.state_dict(), set()
    for tensor, value in student.state_dict().items():
        parts = tensor.split(".")
        if parts[0] == "up_blocks":
            parts[1] = str(int(parts[1]) + shift)
            if parts[2] in ("resnets", "attentions"):
                parts[3] = {"0": "0", "1": "2"}[parts[3]]
        source = ".".join(parts)
        assert torch.equal(value, reference[source]), (tensor, source)
        blocks.add(".".join(parts[:2]))
    assert ("mid_block.resnets" in blocks) == (name == "bk-sdm-base")
    assert ("down_blocks.3" in blocks) == ("up_blocks.0" in blocks) == (name != "bk-sdm-tiny")


def remove_bk(unet: Any, name: str) -> Any:
    """The same removals, on the teacher's own modules."""
    unet = copy.deepcopy(unet)
    for block in unet.down_blocks:
        for part in ("resnets", "attentions"):
            if hasattr(block, part):
                setattr(block, part, nn.ModuleList([getattr(block, part)[0]]))
    for block in unet.up_blocks:
        for part in ("resnets", "attentions"):
            if hasattr(block, part):
                modules = getattr(block, part)
                setattr(block, part, nn.ModuleList([modules[0], modules[2]]))
    if name != "bk-sdm-base":
        unet.mid_block = None
    if name == "bk-sdm-tiny":
        unet.down_blocks = unet.down_blocks[:-1]
        unet.down_blocks[-1].downsamplers = None
        unet.up_blocks = unet.up_blocks[1:]
        unet.num_upsamplers -= 1
    return unet


@pytest.mark.parametrize("name", ["bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"])
def test_students_compute_what_the_teacher_without_those_blocks_computes(name: str) -> None:
    teacher = make_unet(**FOUR)
    student = build_student(teacher, preset(name, teacher.config))
    expected = predict(remove_bk(teacher, name))
    assert torch.equal(predict(student), expected)
    assert not torch.equal(expected, predict(teacher))


class _Pass(nn.Module):
    """A transformer block that does nothing."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


def test_shallower_transformers_equal_the_teacher_with_those_blocks_bypassed(
    tiny_sdxl_teacher: Path,
) -> None:
    config = json.loads((tiny_sdxl_teacher / "unet" / "config.json").read_text())
    config["transformer_layers_per_block"] = [1, 2, 3]
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    teacher = make_unet(**config)
    stages = (
        StageArch(),
        StageArch(down_transformers=((1,), (0, 1))),
        StageArch(down_transformers=((0, 2), (1,)), up_transformers=((0, 1, 2), (2,), (1, 2))),
    )
    student = build_student(teacher, StudentArch(stages, mid_transformers=(0, 1)))
    bypassed = {
        "down_blocks.1.attentions.0": [0],
        "down_blocks.2.attentions.0": [1],
        "down_blocks.2.attentions.1": [0, 2],
        "up_blocks.0.attentions.1": [0, 1],
        "up_blocks.0.attentions.2": [0],
        "mid_block.attentions.0": [2],
    }
    for name, blocks in bypassed.items():
        for block in blocks:
            teacher.get_submodule(name).transformer_blocks[block] = _Pass()
    assert torch.equal(predict(student), predict(teacher))


def test_an_empty_down_block_passes_its_input_on() -> None:
    teacher = make_unet(**FOUR)
    stages = (*(StageArch(),) * 3, StageArch(down=(), up=(0,)))
    student = build_student(teacher, StudentArch(stages))
    # The third and last skip of the teacher's stage is what its first pair read: swap it in.
    assert student.config["layers_per_block"] == [2, 2, 2, 0]
    teacher.down_blocks[3].resnets = nn.ModuleList([])
    teacher.up_blocks[0].resnets = nn.ModuleList([teacher.up_blocks[0].resnets[0]])
    assert torch.equal(predict(student), predict(teacher))


# --- channels ------------------------------------------------------------------------------


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
    assert match is not None
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


NARROW = (StageArch(), StageArch(width=24), StageArch(width=32))
SHORT = StageArch(down=(0,), up=(0, 2))
WIDE_TAIL = {**THREE, "block_out_channels": (16, 32, 32), "attention_head_dim": (2, 4, 4)}


@pytest.mark.parametrize(
    ("config", "tied", "arch"),
    [
        (THREE, {}, StudentArch(NARROW)),
        (THREE, {}, StudentArch(NARROW, mid=False)),
        (THREE, {}, StudentArch((StageArch(), SHORT, StageArch(width=40)))),
        (WIDE_TAIL, {"s2": "s1"}, StudentArch((StageArch(), StageArch(), StageArch(width=24)))),
        (WIDE_TAIL, {"s2": "s1"}, StudentArch((StageArch(), *(StageArch(width=24),) * 2))),
        (
            WIDE_TAIL,
            {"s2": "s1"},
            StudentArch((StageArch(), StageArch(width=24), StageArch(down=(1,), up=(1, 2)))),
        ),
    ],
    ids=["narrow", "narrow, no mid", "narrow, fewer pairs",
         "identity shortcut cut", "tied stages", "tied stages, pairs moved"],
)  # fmt: skip
def test_the_order_of_the_teachers_channels_does_not_matter(
    config: dict[str, Any], tied: dict[str, str], arch: StudentArch
) -> None:
    # One GroupNorm group: the order of channels then means nothing to the norms either.
    teacher = make_unet(**{**config, "norm_num_groups": 1})
    other = permuted(teacher, tied, head_size=8)
    torch.testing.assert_close(predict(other), predict(teacher), rtol=1e-4, atol=1e-5)
    moved = "down_blocks.1.resnets.0.conv2.weight"
    assert not torch.equal(other.state_dict()[moved], teacher.state_dict()[moved])
    student, twin = build_student(teacher, arch), build_student(other, arch)
    torch.testing.assert_close(predict(twin), predict(student), rtol=1e-4, atol=1e-5)


def test_a_small_net_inside_a_big_one_is_found_again() -> None:
    """Weak weights everywhere but in the places of the small net: exactly those are chosen."""
    widths, small_widths, groups, head_size = (16, 32, 48), (16, 24, 32), 4, 8
    big = make_unet(1, **{**THREE, "block_out_channels": widths})
    small = make_unet(
        2,
        **{**THREE, "block_out_channels": small_widths, "attention_head_dim": (2, 3, 4)},
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
    arch = StudentArch(tuple(StageArch(width=width) for width in small_widths))
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


def test_selection_keeps_units_whole_and_groups_even() -> None:
    score = torch.tensor([9.0, 8, 7, 6, 1, 2, 3, 4])
    assert select(score, Space("", 8, 4)).tolist() == [0, 1, 2, 3]
    assert select(score, Space("", 8, 4, groups=2)).tolist() == [0, 1, 6, 7]
    assert select(score, Space("", 8, 4, unit=4)).tolist() == [0, 1, 2, 3]
    assert select(score, Space("", 8, 4, unit=2, groups=2)).tolist() == [0, 1, 6, 7]
    assert select(torch.zeros(8), Space("", 8, 3)).tolist() == [0, 1, 2]


def test_importance_decides() -> None:
    """Reversed importance keeps the other half."""
    teacher = make_unet(**THREE)
    arch = StudentArch((StageArch(), StageArch(width=16), StageArch()))
    importance = magnitude_importance(teacher.state_dict())
    name = "down_blocks.1.resnets.1.conv1.weight"
    best = tensor_map(arch, teacher.config, importance)[name].kept[0]
    worst = tensor_map(arch, teacher.config, {k: -v for k, v in importance.items()})[name].kept[0]
    assert best is not None
    assert worst is not None
    assert sorted(torch.cat([best, worst]).tolist()) == list(range(32))
    assert not torch.equal(best, worst)


def test_a_removed_stage_leaves_its_most_important_channels() -> None:
    """The first up pair read 48 channels from the stage that is gone; 32 come instead."""
    teacher = make_unet(**THREE)
    arch = preset("bk-sdm-tiny", teacher.config)
    state = teacher.state_dict()
    sources = tensor_map(arch, teacher.config, magnitude_importance(state))
    origin = "up_blocks.1.resnets.0"
    score = sum(
        state[f"{origin}.{part}.weight"].abs().sum(dim=(0, 2, 3))
        for part in ("conv1", "conv_shortcut")
    )
    assert isinstance(score, Tensor)
    score = score + state[f"{origin}.norm1.weight"].abs() + state[f"{origin}.norm1.bias"].abs()
    expected = [*sorted(score[:48].topk(32).indices.tolist()), *range(48, 80)]
    for part, dim in (("conv1", 1), ("conv_shortcut", 1), ("norm1", 0)):
        source = sources[f"up_blocks.0.resnets.0.{part}.weight"]
        assert source.tensor == f"{origin}.{part}.weight"
        kept = source.kept[dim]
        assert kept is not None
        assert kept.tolist() == expected
    chosen = {name for name, source in sources.items() if any(k is not None for k in source.kept)}
    assert {name.rsplit(".", 2)[0] for name in chosen} == {"up_blocks.0.resnets.0"}


def test_a_kept_mid_block_follows_the_stage_it_now_belongs_to() -> None:
    teacher = make_unet(**THREE)
    arch = StudentArch((StageArch(), StageArch()), mid=True)
    student = build_student(teacher, arch)
    sources = tensor_map(arch, teacher.config, magnitude_importance(teacher.state_dict()))
    kept = sources["mid_block.resnets.1.conv2.weight"].kept[0]
    assert kept is not None
    assert torch.bincount(kept // 12).tolist() == [8] * 4
    assert torch.isfinite(predict(student)).all()
    assert student.mid_block.attentions[0].transformer_blocks[0].attn1.heads == 4


def test_channels_cannot_be_chosen_by_nothing() -> None:
    with pytest.raises(ValueError, match="importance"):
        tensor_map(StudentArch(NARROW), THREE)


def test_importance_must_be_finite() -> None:
    state = dict(make_unet(**THREE).state_dict())
    state["down_blocks.1.resnets.1.conv1.bias"][3] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        tensor_map(StudentArch(NARROW), THREE, magnitude_importance(state))


def test_a_new_shortcut_is_cut_out_of_the_identity() -> None:
    teacher = make_unet(**WIDE_TAIL)
    arch = StudentArch((StageArch(), StageArch(), StageArch(width=16)))
    sources = tensor_map(arch, teacher.config, magnitude_importance(teacher.state_dict()))
    name = "down_blocks.2.resnets.0.conv_shortcut"
    assert sources[f"{name}.weight"].tensor == IDENTITY
    assert sources[f"{name}.bias"].tensor == ZEROS
    weight = build_student(teacher, arch).state_dict()[f"{name}.weight"][:, :, 0, 0]
    rows = sources[f"{name}.weight"].kept[0]
    assert rows is not None
    assert torch.equal(weight, torch.eye(32)[rows])


@pytest.mark.parametrize("name", ["bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"])
@pytest.mark.parametrize("config", [FOUR, THREE], ids=["four stages", "three stages"])
def test_feature_pairs_have_equal_shapes(config: dict[str, Any], name: str) -> None:
    teacher = make_unet(**config)
    arch = preset(name, teacher.config)
    student = build_student(teacher, arch)
    pairs = feature_pairs(arch, teacher.config)
    points = [theirs for theirs, _ in pairs], [mine for _, mine in pairs]
    assert set(points[0]) <= set(list_points(teacher))
    with Taps(teacher, points[0]) as theirs, Taps(student, points[1]) as mine:
        predict(teacher)
        predict(student)
        for teacher_point, student_point in pairs:
            assert theirs[teacher_point].shape == mine[student_point].shape
    count = len(student.down_blocks) + len(student.up_blocks) + (name == "bk-sdm-base")
    assert len(pairs) == len(set(pairs)) == count


def test_feature_pairs_leave_narrowed_stages_out() -> None:
    arch = StudentArch((StageArch(), StageArch(width=16), StageArch()))
    assert feature_pairs(arch, THREE) == [
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.2", "down_blocks.2"),
        ("mid_block", "mid_block"),
        ("up_blocks.0", "up_blocks.0"),
        ("up_blocks.2", "up_blocks.2"),
    ]
    assert len(feature_pairs(full(FOUR), FOUR)) == 9
