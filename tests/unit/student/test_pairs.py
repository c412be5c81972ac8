from collections.abc import Callable
from typing import Any

import pytest
from fixtures.unets import FOUR, NARROW, THREE
from torch import Tensor

from edgekd.diffusion.taps import Taps, list_points
from edgekd.errors import InputError
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student
from edgekd.student.pairs import attention_pairs, block_pairs, paired_blocks
from edgekd.student.resolve import full, preset
from edgekd.student.shape import read_shape

MakeUNet = Callable[..., Any]
Predict = Callable[[Any], Tensor]
PRESETS = ("bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny")


def shapes(teacher, student, pairs, predict):
    """Of the features of each pair, the teacher's and the student's."""
    theirs = Taps(teacher, [pair.teacher for pair in pairs])
    ours = Taps(student, [pair.student for pair in pairs])
    with theirs, ours:
        predict(teacher)
        predict(student)
        return [
            (theirs.features(pair.teacher).shape, ours.features(pair.student).shape)
            for pair in pairs
        ]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("config", [FOUR, THREE], ids=["four stages", "three stages"])
def test_paired_blocks_have_equal_shapes(config, name, make_unet, predict):
    teacher = make_unet(**config)
    arch = preset(name, teacher.config)
    student = build_student(teacher, arch)
    pairs = block_pairs(arch, teacher.config)
    for pair, (theirs, ours) in zip(pairs, shapes(teacher, student, pairs, predict), strict=True):
        assert theirs == ours
        assert pair.same_width
    count = len(student.down_blocks) + len(student.up_blocks) + (name == "bk-sdm-base")
    assert len(pairs) == len(set(pairs)) == count


def test_narrowed_stages_say_both_widths(make_unet, predict):
    arch = StudentArch(stages=NARROW)
    teacher = make_unet(**THREE)
    student = build_student(teacher, arch)
    pairs = block_pairs(arch, THREE)
    assert [(p.teacher, p.student, p.widths) for p in pairs] == [
        ("down_blocks.0", "down_blocks.0", (16, 16)),
        ("down_blocks.1", "down_blocks.1", (32, 24)),
        ("down_blocks.2", "down_blocks.2", (48, 32)),
        ("mid_block", "mid_block", (48, 32)),
        ("up_blocks.0", "up_blocks.0", (48, 32)),
        ("up_blocks.1", "up_blocks.1", (32, 24)),
        ("up_blocks.2", "up_blocks.2", (16, 16)),
    ]
    assert [pair.same_width for pair in pairs] == [True, *(False,) * 5, True]
    for pair, (theirs, ours) in zip(pairs, shapes(teacher, student, pairs, predict), strict=True):
        assert (theirs[1], ours[1]) == pair.widths
        assert theirs[2:] == ours[2:]
    assert len(block_pairs(full(FOUR), FOUR)) == 9


def test_a_deeper_student_is_refused():
    with pytest.raises(InputError, match="at most the teacher's 3 stages"):
        paired_blocks(read_shape(FOUR), read_shape(THREE))


@pytest.mark.parametrize("name", PRESETS)
def test_every_attention_of_a_student_has_its_origin(name, make_unet):
    teacher = make_unet(**FOUR)
    arch = preset(name, teacher.config)
    student = build_student(teacher, arch)
    points = list_points(student)
    for kind in ("attn1", "attn2"):
        pairs = attention_pairs(arch, teacher.config, kind)
        assert sorted(ours for _, ours in pairs) == sorted(p for p in points if p.endswith(kind))
        for theirs, ours in pairs:
            inherited = teacher.get_submodule(f"{theirs}.to_q").weight
            assert inherited.equal(student.get_submodule(f"{ours}.to_q").weight)


def test_removed_transformer_blocks_move_the_others_up():
    config = {**THREE, "transformer_layers_per_block": [1, 2, 1]}
    stages = (StageArch(), StageArch(down_transformers=((1,), (0, 1))), StageArch())
    pairs = attention_pairs(StudentArch(stages=stages), config, "attn1")
    moved = "down_blocks.1.attentions.0.transformer_blocks"
    assert (f"{moved}.1.attn1", f"{moved}.0.attn1") in pairs
