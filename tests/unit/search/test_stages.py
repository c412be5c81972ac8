"""What a stage may be: every choice follows from the teacher's."""

import pytest
from fixtures.teachers import ODD, PUBLISHED

from edgekd.search.stages import (
    StageChoice,
    attention_of,
    kept_blocks,
    stage_arch,
    stage_options,
)
from edgekd.student.resolve import evenly_spaced
from edgekd.student.shape import read_shape

SHARES = (1.0, 0.75, 0.5)
SDXL = read_shape(PUBLISHED["sdxl"]["unet"])
NESTED = read_shape(ODD["nested depths"])
ONE_WAY = read_shape(ODD["attention one way"])


@pytest.mark.parametrize(
    ("count", "kept", "expected"),
    [
        (10, 5, (0, 2, 5, 7, 9)),
        (10, 3, (0, 5, 9)),
        (10, 1, (0,)),
        (10, 0, ()),
        (2, 2, (0, 1)),
    ],
)
def test_evenly_spaced(count, kept, expected):
    assert evenly_spaced(count, kept) == expected


def test_evenly_spaced_indices_rise_from_the_first_to_the_last():
    for count in range(2, 40):
        for kept in range(2, count + 1):
            indices = evenly_spaced(count, kept)
            assert len(set(indices)) == kept
            assert list(indices) == sorted(indices)
            assert (indices[0], indices[-1]) == (0, count - 1)


def test_two_pairs_as_in_stable_diffusion():
    """Pair 0 stays where the width changes; the empty block needs the width before it."""
    sd15 = read_shape(PUBLISHED["sd15"]["unet"])
    free = ["0 1 | 0 1 2", "0 | 0 2", "1 | 0 2", "- | 0"]
    for s, expected in enumerate([free, free[:2], free[:2], free]):
        assert list(stage_options(sd15, s, SHARES).pairs) == expected


def test_three_pairs_are_all_listed_and_more_are_evenly_spaced():
    three = list(stage_options(ONE_WAY, 2, SHARES).pairs)
    assert len(three) == 1 + 3 * 2 + 3 + 1
    assert "1 2 | 0 2 3" in three
    assert list(stage_options(ONE_WAY, 1, SHARES).pairs) == [
        "0 1 2 3 4 | 0 1 2 3 4 5", "0 1 3 4 | 0 1 3 4 5", "0 2 4 | 0 2 3 5", "0 4 | 0 3 5",
        "0 | 0 5",
    ]  # fmt: skip


def test_a_stage_that_attends_in_its_down_block_alone_keeps_a_pair_there():
    assert ONE_WAY.widths[1] == ONE_WAY.widths[0]
    assert "- | 0" not in stage_options(ONE_WAY, 1, SHARES).pairs


def test_attention_is_on_offer_where_the_teacher_has_it():
    assert stage_options(SDXL, 0, SHARES).attention == ("none",)
    assert stage_options(SDXL, 1, SHARES).attention == ("both", "up", "down", "none")
    assert stage_options(ONE_WAY, 1, SHARES).attention == ("down", "none")
    assert stage_options(ONE_WAY, 2, SHARES).attention == ("up", "none")


def test_depths_are_all_half_a_quarter_and_one():
    assert [stage_options(SDXL, s, SHARES).depths for s in range(3)] == [
        (1,), (2, 1), (10, 5, 3, 1),
    ]  # fmt: skip
    # The deepest pair counts, down or up; and the mid block on the innermost stage.
    assert stage_options(NESTED, 2, SHARES).depths == (7, 4, 2, 1)
    deep_mid = read_shape(ODD["a mid block deeper than its stage"])
    assert stage_options(deep_mid, 2, SHARES).depths == (4, 2, 1)


def test_widths_are_whole_heads_and_groups_without_duplicates():
    starter = read_shape(PUBLISHED["starter"]["unet"])
    widths = [stage_options(starter, s, (1.0, 0.75, 0.74, 0.5, 0.01)).widths for s in range(3)]
    # Stage 2 does not attend: its widths are whole groups alone.
    assert widths == [(64,), (128, 96, 64, 32), (192, 128, 96, 32)]
    # Heads of 64 channels do not divide 480.
    assert stage_options(SDXL, 1, SHARES).widths == (640, 512, 320)
    mid_alone = read_shape(ODD["attention in the mid block alone"])
    assert stage_options(mid_alone, 2, SHARES).widths == (48, 32)


def test_a_width_that_the_stage_before_may_have_must_be_whole_heads_of_this_one_too():
    heads = read_shape(ODD["equal widths, other heads"])
    assert (heads.head_size(0), heads.head_size(1)) == (8, 24)
    assert "- | 0" not in stage_options(heads, 1, SHARES).pairs


def test_a_pair_keeps_at_most_the_chosen_depth():
    options = stage_options(NESTED, 2, SHARES)
    pairs = options.pairs["0 1 | 0 1 2"]
    stage = stage_arch(NESTED, 2, pairs, StageChoice(pairs.label(), "both", 4, 32))
    assert stage.width == 32
    assert stage.down_transformers == ((0, 1, 2, 3), (0, 2, 4, 6))
    assert stage.up_transformers == ((0, 1, 2, 3), (0, 1, 2, 3), (0, 2, 4, 6))
    assert attention_of(stage) == "both"
    assert [own for own, _ in kept_blocks(NESTED, 2, stage)] == [4, 7, 4, 4, 7]


@pytest.mark.parametrize("attention", ["both", "up", "down", "none"])
def test_attention_by_block(attention):
    pairs = stage_options(SDXL, 2, SHARES).pairs["0 | 0 2"]
    stage = stage_arch(SDXL, 2, pairs, StageChoice(pairs.label(), attention, 1, 1280))
    assert attention_of(stage) == attention
    assert any(stage.down_transformers or ()) == (attention in ("both", "down"))
    assert any(stage.up_transformers or ()) == (attention in ("both", "up"))
