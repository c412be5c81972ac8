"""Damage of changes: none at the teacher, more for more, exact where it was measured, once."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from fixtures.unets import THREE, make_unet
from torch import nn

from edgekd.diffusion.noise_schedule import build_scheduler, read_schedule
from edgekd.progress import Silent
from edgekd.search.agreement import Calibration, UNetInputs
from edgekd.search.candidate import Candidate
from edgekd.search.effects import DamageMeter, Effects, EffectSettings, compose, measure_effects
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.resolve import resolve

__all__ = ["make_unet"]

FIRST = {"down": (0,), "up": (0, 2)}
A, B, C = ("a", 1), ("b", 1), ("c", 1)


class SmallSpace:
    """A stand-in for the search space, with a dimension that has nothing to do with the U-Net."""

    @property
    def dimensions(self):
        return {
            "removed_stages": (0, 1),
            "0.pairs": ("all", "first"),
            "1.width": (32, 16),
            "mid": (True, False),
            "steps": (4, 2),
        }

    def __init__(self):
        combinations = product(*self.dimensions.values())
        every = [dict(zip(self.dimensions, choices, strict=True)) for choices in combinations]
        # The last of equal candidates has the teacher's own choices where nothing changes.
        self.known = {self.candidate(choices).key(): choices for choices in reversed(every)}

    def candidate(self, choices):
        removed = choices["removed_stages"]
        first = StageArch(**FIRST) if choices["0.pairs"] == "first" else StageArch()
        stages = (first, StageArch(width=choices["1.width"]), StageArch())[: 3 - removed]
        arch = StudentArch(stages=stages, mid=choices["mid"] and not removed)
        return Candidate(
            arch=resolve(arch, THREE), decoder_width=1, steps=choices["steps"], precision="fp32"
        )

    def choices(self, candidate):
        return self.known[candidate.key()]


@pytest.fixture(scope="module")
def space():
    return SmallSpace()


@pytest.fixture(scope="module")
def unet():
    return make_unet.__wrapped__()(**THREE).requires_grad_(False)


@pytest.fixture(scope="module")
def calibration():
    source = torch.Generator().manual_seed(0)
    latents, text = (torch.randn(*shape, generator=source) for shape in ((4, 4, 8, 8), (4, 5, 8)))
    inputs = UNetInputs(latents, torch.tensor([125, 375, 625, 875]), text, None)
    return Calibration("key", inputs, latents, read_schedule(build_scheduler()), 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def effects(unet, calibration, space, folder):
    return measure_effects(
        DamageMeter(unet, calibration, folder), space, EffectSettings(), Silent()
    )


class NoForward(nn.Module):
    """A teacher that must not be asked."""

    def forward(self, *_):
        raise AssertionError("a second run must compute nothing")


def test_a_whole_copy_has_no_damage_and_removals_have(unet, calibration, space, tmp_path):
    meter = DamageMeter(unet, calibration, tmp_path)
    own = {name: options[0] for name, options in space.dimensions.items()}
    assert meter.damage(space.candidate(own).arch) == 0
    less = meter.damage(space.candidate({**own, "1.width": 16}).arch)
    assert less > 0


def test_every_change_of_the_unet_is_measured(effects):
    changes = {("removed_stages", 1), ("0.pairs", "first"), ("1.width", 16), ("mid", False)}
    assert set(effects.single) == changes
    assert all(damage > 0 for damage in effects.single.values())


WIDTH_AND_REMOVED = ("removed_stages", 1), ("1.width", 16)
WIDTH_AND_PAIRS = ("0.pairs", "first"), ("1.width", 16)
MID_AND_REMOVED = ("removed_stages", 1), ("mid", False)


def test_pairs_are_neighbours_and_measured_together(effects):
    """Stage 0 borders on stage 1 alone; the innermost stage takes the mid block with it."""
    assert set(effects.joint) == {WIDTH_AND_REMOVED, WIDTH_AND_PAIRS, MID_AND_REMOVED}
    assert effects.joint[MID_AND_REMOVED] == effects.single["removed_stages", 1]


def test_fewer_pairs_are_the_worst_and_what_is_known_costs_nothing(
    effects, calibration, space, folder
):
    meter = DamageMeter(NoForward(), calibration, folder)
    one = measure_effects(meter, space, EffectSettings(pairs=1), Silent())

    def alone(pair):
        return effects.single[pair[0]] * effects.single[pair[1]]

    assert set(one.joint) == {MID_AND_REMOVED, max(WIDTH_AND_REMOVED, WIDTH_AND_PAIRS, key=alone)}
    none = measure_effects(meter, space, EffectSettings(pairs=0), Silent())
    assert set(none.joint) == {MID_AND_REMOVED}


def test_a_second_run_computes_nothing(effects, calibration, space, folder):
    meter = DamageMeter(NoForward(), calibration, folder)
    assert measure_effects(meter, space, EffectSettings(), Silent()) == effects


def test_another_calibration_set_is_measured_anew(calibration, space, folder, effects):
    other = replace(calibration, key="other")
    own = {name: options[0] for name, options in space.dimensions.items()}
    arch = space.candidate({**own, "mid": False}).arch
    assert DamageMeter(NoForward(), calibration, folder).knows(arch)
    assert not DamageMeter(NoForward(), other, folder).knows(arch)


def test_single_and_measured_pairs_compose_to_themselves():
    effects = Effects({A: 0.5, B: 0.3, C: 0.2}, {(A, B): 0.6, (B, C): 0.7})
    assert compose([], effects) == 0
    assert compose([A], effects) == 0.5
    assert compose([A, B], effects) == pytest.approx(0.6)
    assert compose([B, C], effects) == pytest.approx(0.7)


def test_unmeasured_pairs_add_and_interactions_of_more_are_summed():
    effects = Effects({A: 0.5, B: 0.3, C: 0.2}, {(A, B): 0.6, (B, C): 0.7})
    assert compose([A, C], effects) == pytest.approx(0.5 + 0.2)
    assert compose([A, B, C], effects) == pytest.approx(1.0 - 0.2 + 0.2)


def test_missing_interactions_of_three_mend_nothing():
    """Three changes that each break the same: pairs alone would count them as -1 + ... = 0."""
    effects = Effects(
        {A: 1.0, B: 1.0, C: 1.0}, {(A, B): 1.0, (A, C): 1.0, (B, C): 1.1}
    )  # fmt: skip
    assert compose([A, B, C], effects) == pytest.approx(1.1)
