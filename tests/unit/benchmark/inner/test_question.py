from fixtures.teachers import PUBLISHED
from fixtures.unets import FOUR, THREE

from edgekd.benchmark.inner.question import (
    all_points,
    block_points,
    pair_up,
    spread_timesteps,
)
from edgekd.diffusion.taps import list_points
from edgekd.student.config import to_unet_config
from edgekd.student.resolve import preset
from edgekd.student.shape import read_shape


def shape_of(config, student):
    return read_shape(to_unet_config(preset(student, config), config))


def test_timesteps_are_the_middles_of_equal_parts():
    assert spread_timesteps(4, 1000) == (125, 375, 625, 875)
    assert spread_timesteps(1, 1000) == (500,)


def test_points_are_those_of_the_u_net(make_unet):
    unet = make_unet(**FOUR)
    points = all_points(read_shape(unet.config))
    assert set(points) <= set(list_points(unet))
    assert len(points) == 4 + 1 + 4 + 4
    assert block_points(read_shape(unet.config)) == points[:9]


def test_a_student_without_inner_stages_is_paired_by_place():
    pairing = pair_up(read_shape(FOUR), shape_of(FOUR, "bk-sdm-tiny"), side=8)
    assert [(pair.teacher, pair.student) for pair in pairing.blocks] == [
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.1", "down_blocks.1"),
        ("down_blocks.2.attentions.1", "down_blocks.2.attentions.0"),
        ("up_blocks.1", "up_blocks.0"),
        ("up_blocks.2", "up_blocks.1"),
        ("up_blocks.3", "up_blocks.2"),
    ]
    assert "mid_block" in pairing.teacher_blocks
    assert "mid_block" not in pairing.student_blocks
    # The finest maps of at most 16 positions a side: the last layers on the way up.
    assert pairing.attention == (
        "up_blocks.3.attentions.2.transformer_blocks.0.attn2",
        "up_blocks.2.attentions.1.transformer_blocks.0.attn2",
    )


def test_maps_of_large_latents_are_taken_where_they_are_small_enough():
    config = PUBLISHED["sd15"]["unet"]
    pairing = pair_up(read_shape(config), shape_of(config, "bk-sdm-base"), side=64)
    assert pairing.attention == (
        "up_blocks.1.attentions.2.transformer_blocks.0.attn2",
        "up_blocks.1.attentions.1.transformer_blocks.0.attn2",
    )
    sdxl = read_shape(PUBLISHED["sdxl"]["unet"])
    theirs, _ = pair_up(sdxl, sdxl, side=128).attention
    assert theirs == "up_blocks.0.attentions.2.transformer_blocks.9.attn2"  # 32 a side


def test_u_nets_that_attend_to_no_text_have_no_maps():
    deaf = {
        **THREE,
        "down_block_types": ["DownBlock2D"] * 3,
        "up_block_types": ["UpBlock2D"] * 3,
        "mid_block_type": None,
    }
    assert pair_up(read_shape(THREE), read_shape(deaf), side=8).attention is None
