import copy

import pytest
import torch
from fixtures.unets import FOUR, NARROW, THREE

from edgekd.diffusion.taps import Taps
from edgekd.distill.objective import Nets
from edgekd.distill.projections import add_projections, drop_projections, project, projections_of
from edgekd.recipe_losses import LossSection
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.build import build_student
from edgekd.student.resolve import preset

ARCH = StudentArch(stages=NARROW)


@pytest.fixture
def nets(make_unet) -> Nets:
    teacher = make_unet(**THREE)
    student = build_student(teacher, ARCH)
    add_projections(student, ARCH, teacher, LossSection())
    return Nets(student, teacher, ARCH)


def test_narrowed_blocks_get_the_teachers_width(nets, predict):
    projections = projections_of(nets.student)
    points = ["down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.1"]
    assert sorted(projections) == [
        "down_blocks_1", "down_blocks_2", "mid_block", "up_blocks_0", "up_blocks_1"
    ]  # fmt: skip
    with Taps(nets.student, points) as ours, Taps(nets.teacher, points) as theirs:
        predict(nets.student)
        predict(nets.teacher)
        for point in points:
            projected = project(projections, point, ours.features(point))
            assert projected.shape == theirs.features(point).shape
        assert project(projections, points[0], ours.features(points[0])) is ours[points[0]]


def test_a_projection_begins_as_inheritance(nets):
    """Channel i of the student goes to the teacher's channel that its weights came from."""
    projection = projections_of(nets.student)["down_blocks_1"]
    ours = nets.student.down_blocks[1].resnets[1].conv2.bias.detach()
    theirs = nets.teacher.down_blocks[1].resnets[1].conv2.bias.detach()
    put = projection(ours[None, :, None, None])[0, :, 0, 0]
    kept = projection.weight[:, :, 0, 0].sum(dim=1) > 0
    assert int(kept.sum()) == 24
    assert torch.equal(put[kept], theirs[kept])
    assert not put[~kept].any()


def test_no_random_number_is_drawn(make_unet):
    teacher = make_unet(**THREE)
    student = build_student(teacher, ARCH)
    before = torch.get_rng_state()
    add_projections(student, ARCH, teacher, LossSection())
    assert torch.equal(torch.get_rng_state(), before)


def test_without_them_it_is_the_same_unet(nets, predict):
    plain = build_student(nets.teacher, ARCH)
    other = copy.deepcopy(nets.student)
    drop_projections(other)
    assert list(other.state_dict()) == list(plain.state_dict())
    assert torch.equal(predict(nets.student), predict(plain))
    drop_projections(other)  # nothing to drop


def test_students_of_the_teachers_widths_need_none(make_unet):
    teacher = make_unet(**FOUR)
    arch = preset("bk-sdm-small", teacher.config)
    student = build_student(teacher, arch)
    add_projections(student, arch, teacher, LossSection())
    assert projections_of(student) == {}


def test_an_empty_down_block_is_projected_too(make_unet):
    teacher = make_unet(**FOUR)
    stages = (
        StageArch(),
        StageArch(),
        StageArch(width=16),
        StageArch(width=16, down=(), up=(0,)),
    )
    arch = StudentArch(stages=stages, mid=False)
    student = build_student(teacher, arch)
    add_projections(student, arch, teacher, LossSection())
    assert "down_blocks_3" in projections_of(student)


def test_terms_that_want_no_projection_bring_none(make_unet):
    teacher = make_unet(**THREE)
    student = build_student(teacher, ARCH)
    add_projections(student, ARCH, teacher, LossSection(feature=0, activation_map=1))
    assert projections_of(student) == {}
