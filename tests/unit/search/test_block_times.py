import numpy as np
import pytest
from fixtures.graph_costs import block_ms, random_candidates, starter_configs

from edgekd.errors import InputError
from edgekd.search.block_times import BlockTimes, corner_blocks, farthest, group_of
from edgekd.search.unet_work import UNetWork


@pytest.fixture(scope="module")
def blocks():
    configs = starter_configs()
    work = UNetWork(configs, BlockTimes({}, {}, {}, {}))
    return {b for c in random_candidates(configs, 200, 0) for b in work.blocks(c.arch)}


def test_corners_are_few_and_of_every_group(blocks):
    corners = corner_blocks(blocks)
    groups = {group_of(block) for block in blocks}
    assert len(corners) <= 0.6 * len(blocks)
    assert {group_of(block) for block in corners} == groups
    # The largest of each comes first: whoever stops early has something of every group.
    assert len({block.kind for block in corners[:6]}) == 6
    assert {group_of(block) for block in corners[: len(groups)]} == groups
    for group, largest in zip(map(group_of, corners), corners[: len(groups)], strict=False):
        same = [b.sizes.macs for b in blocks if group_of(b) == group]
        assert largest.sizes.macs == max(same)


def test_corners_do_not_hang_on_order(blocks):
    rising = sorted(blocks, key=lambda block: block.sizes.macs)
    assert corner_blocks(rising) == corner_blocks(rising[::-1])


def test_other_blocks_are_interpolated(blocks):
    times = BlockTimes.fit({block: block_ms(block) for block in corner_blocks(blocks)})
    told = np.array([times(block) for block in blocks])
    taken = np.array([block_ms(block) for block in blocks])
    assert np.abs(told / taken - 1).max() < 0.05


def test_a_measured_block_has_its_own_time(blocks):
    corners = corner_blocks(blocks)
    measured = {block: block_ms(block) for block in corners}
    measured[corners[0]] *= 3
    assert BlockTimes.fit(measured)(corners[0]) == measured[corners[0]]


def test_a_group_with_one_measurement_is_scaled_to_it(blocks):
    residual = [b for b in corner_blocks(blocks) if b.kind == "residual"]
    groups = list({group_of(block) for block in residual})
    one = next(block for block in residual if group_of(block) == groups[0])
    others = [block for block in residual if group_of(block) != groups[0]]
    measured = {block: block_ms(block) for block in others}
    unscaled = BlockTimes.fit({**measured, one: block_ms(one)})
    assert unscaled(one) == block_ms(one)
    other = next(b for b in blocks if group_of(b) == groups[0] and b != one)
    slow = BlockTimes.fit({**measured, one: 10 * block_ms(one)})
    assert slow(other) > 2 * unscaled(other)


def test_a_kind_that_was_not_measured_is_told_from_the_others(blocks):
    corners = [block for block in corner_blocks(blocks) if block.kind == "residual"]
    times = BlockTimes.fit({block: block_ms(block) for block in corners})
    (stem,) = (block for block in blocks if block.kind == "stem")
    assert 0.2 < times(stem) / block_ms(stem) < 5
    with pytest.raises(InputError, match="must be measured"):
        BlockTimes({}, {}, {}, {})(stem)


def test_farthest_rows_leave_equal_ones_out():
    points = np.array([[0.0], [0.0], [1.0], [10.0]])
    assert farthest(points, [0], 4) == [0, 3, 2]
