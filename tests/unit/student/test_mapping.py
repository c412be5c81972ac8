"""Inheritance of blocks and the choice of channels.

Removing blocks must equal removing the same modules from the stock teacher.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.unets import FOUR, NARROW, THREE, WIDE_TAIL
from torch import Tensor, nn

from edgekd.diffusion.load import load_model
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student
from edgekd.student.importance import magnitude_importance
from edgekd.student.layout import IDENTITY, Space
from edgekd.student.mapping import ZEROS, select, tensor_map
from edgekd.student.resolve import preset

MakeUNet = Callable[..., Any]
Predict = Callable[[Any], Tensor]


# BK-SDM's mapping, by hand: student up pairs 0 and 1 are the teacher's 0 and 2; in Tiny the
# student's up blocks are the teacher's next ones.
@pytest.mark.parametrize(
    ("name", "shift"), [("bk-sdm-base", 0), ("bk-sdm-small", 0), ("bk-sdm-tiny", 1)]
)
@pytest.mark.parametrize("fixture", ["tiny_teacher", "tiny_sd2_teacher"])
def test_bk_sdm_mapping(fixture, name, shift, request):
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
def test_students_compute_what_the_teacher_without_those_blocks_computes(name, make_unet, predict):
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
    tiny_sdxl_teacher, make_unet, predict
):
    config = json.loads((tiny_sdxl_teacher / "unet" / "config.json").read_text())
    config["transformer_layers_per_block"] = [1, 2, 3]
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    teacher = make_unet(**config)
    stages = (
        StageArch(),
        StageArch(down_transformers=((1,), (0, 1))),
        StageArch(down_transformers=((0, 2), (1,)), up_transformers=((0, 1, 2), (2,), (1, 2))),
    )
    student = build_student(teacher, StudentArch(stages=stages, mid_transformers=(0, 1)))
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


def test_an_empty_down_block_passes_its_input_on(make_unet, predict):
    teacher = make_unet(**FOUR)
    stages = (*(StageArch(),) * 3, StageArch(down=(), up=(0,)))
    student = build_student(teacher, StudentArch(stages=stages))
    # The third and last skip of the teacher's stage is what its first pair read: swap it in.
    assert student.config["layers_per_block"] == [2, 2, 2, 0]
    teacher.down_blocks[3].resnets = nn.ModuleList([])
    teacher.up_blocks[0].resnets = nn.ModuleList([teacher.up_blocks[0].resnets[0]])
    assert torch.equal(predict(student), predict(teacher))


def test_selection_keeps_units_whole_and_groups_even():
    score = torch.tensor([9.0, 8, 7, 6, 1, 2, 3, 4])
    assert select(score, Space("", 8, 4)).tolist() == [0, 1, 2, 3]
    assert select(score, Space("", 8, 4, groups=2)).tolist() == [0, 1, 6, 7]
    assert select(score, Space("", 8, 4, unit=4)).tolist() == [0, 1, 2, 3]
    assert select(score, Space("", 8, 4, unit=2, groups=2)).tolist() == [0, 1, 6, 7]
    assert select(torch.zeros(8), Space("", 8, 3)).tolist() == [0, 1, 2]


def test_importance_decides(make_unet):
    """Reversed importance keeps the other half."""
    teacher = make_unet(**THREE)
    arch = StudentArch(stages=(StageArch(), StageArch(width=16), StageArch()))
    importance = magnitude_importance(teacher.state_dict())
    name = "down_blocks.1.resnets.1.conv1.weight"
    best = tensor_map(arch, teacher.config, importance)[name].kept[0]
    worst = tensor_map(arch, teacher.config, {k: -v for k, v in importance.items()})[name].kept[0]
    assert best is not None
    assert worst is not None
    assert sorted(torch.cat([best, worst]).tolist()) == list(range(32))
    assert not torch.equal(best, worst)


def test_a_removed_stage_leaves_its_most_important_channels(make_unet):
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
        assert kept.tolist() == expected
    chosen = {name for name, source in sources.items() if any(k is not None for k in source.kept)}
    assert {name.rsplit(".", 2)[0] for name in chosen} == {"up_blocks.0.resnets.0"}


def test_a_kept_mid_block_follows_the_stage_it_now_belongs_to(make_unet, predict):
    teacher = make_unet(**THREE)
    arch = StudentArch(stages=(StageArch(), StageArch()), mid=True)
    student = build_student(teacher, arch)
    sources = tensor_map(arch, teacher.config, magnitude_importance(teacher.state_dict()))
    kept = sources["mid_block.resnets.1.conv2.weight"].kept[0]
    assert kept is not None
    assert torch.bincount(kept // 12).tolist() == [8] * 4
    assert torch.isfinite(predict(student)).all()
    assert student.mid_block.attentions[0].transformer_blocks[0].attn1.heads == 4


def test_channels_cannot_be_chosen_by_nothing():
    with pytest.raises(ValueError, match="importance"):
        tensor_map(StudentArch(stages=NARROW), THREE)


def test_importance_must_be_finite(make_unet):
    state = dict(make_unet(**THREE).state_dict())
    state["down_blocks.1.resnets.1.conv1.bias"][3] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        tensor_map(StudentArch(stages=NARROW), THREE, magnitude_importance(state))


def test_a_new_shortcut_is_cut_out_of_the_identity(make_unet):
    teacher = make_unet(**WIDE_TAIL)
    arch = StudentArch(stages=(StageArch(), StageArch(), StageArch(width=16)))
    sources = tensor_map(arch, teacher.config, magnitude_importance(teacher.state_dict()))
    name = "down_blocks.2.resnets.0.conv_shortcut"
    assert sources[f"{name}.weight"].tensor == IDENTITY
    assert sources[f"{name}.bias"].tensor == ZEROS
    weight = build_student(teacher, arch).state_dict()[f"{name}.weight"][:, :, 0, 0]
    rows = sources[f"{name}.weight"].kept[0]
    assert rows is not None
    assert torch.equal(weight, torch.eye(32)[rows])
