from itertools import product

import pytest
from fixtures.graph_costs import random_candidates, starter_configs
from fixtures.teachers import ODD

from edgekd.search.blocks import Sizes, unet_blocks
from edgekd.search.unet_work import explicit_plan
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.cost import unet_cost
from edgekd.student.plan import plan_student
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import PRESETS, preset, resolve
from edgekd.student.shape import read_shape


def total(arch, config, side, tokens) -> Sizes:
    blocks = unet_blocks(plan_student(arch, config), (side, side), tokens)
    return sum((b.sizes.times(n) for b, n in blocks.items()), Sizes(0, 0, 0))


@pytest.mark.parametrize(
    ("architecture", "name"),
    [*product(["sd15", "sd21"], PRESETS[:-1]), ("as SSD-1B", "full")],
)
def test_blocks_are_the_whole_unet(architecture, name):
    config = ODD.get(architecture) or ARCHITECTURES[architecture]["unet"]
    arch = preset(name, config)
    found = total(arch, config, 64, 77)
    wanted = unet_cost(arch, config, (64, 64), 77)
    assert (found.macs, found.parameters) == (wanted.macs, wanted.parameters)


def test_blocks_of_narrow_students_are_the_whole_unet():
    configs = starter_configs()
    for candidate in random_candidates(configs, 30, 0):
        found = total(candidate.arch, configs.unet, 16, 32)
        wanted = unet_cost(candidate.arch, configs.unet, (16, 16), 32)
        assert (found.macs, found.parameters) == (wanted.macs, wanted.parameters)


def test_odd_sides_are_halved_upwards():
    config = starter_configs().unet
    blocks = unet_blocks(plan_student(preset("full", config), config), (15, 9), 32)
    assert {(b.height, b.width) for b in blocks} == {(15, 9), (8, 5), (4, 3)}


def test_equal_blocks_are_one():
    config = starter_configs().unet
    blocks = unet_blocks(plan_student(preset("full", config), config), (16, 16), 32)
    assert max(blocks.values()) == 5  # transformers of a stage
    assert len(blocks) < sum(blocks.values())


def test_an_explicit_plan_is_the_checked_one():
    configs = starter_configs()
    shape = read_shape(configs.unet)
    for candidate in random_candidates(configs, 20, 1):
        plan = explicit_plan(candidate.arch, shape, configs.unet)
        assert plan == plan_student(candidate.arch, configs.unet)


def test_an_arch_with_open_fields_is_filled_in():
    config = starter_configs().unet
    shape = read_shape(config)
    half_open = StageArch(width=64, down=(0,), up=(0, 2))
    for arch in (
        StudentArch(stages=(StageArch(),) * 3),
        StudentArch(stages=(half_open,), mid=False),
        resolve(StudentArch(stages=(StageArch(),) * 3), config).model_copy(
            update={"mid_transformers": None}
        ),
    ):
        assert explicit_plan(arch, shape, config) == plan_student(arch, config)
