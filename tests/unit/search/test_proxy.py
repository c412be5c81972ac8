"""Expected quality: one factor for each thing that a student loses."""

import math
import time

import pytest
from fixtures.teachers import SMALL_VAE
from fixtures.unets import THREE

from edgekd.progress import Silent
from edgekd.search.candidate import Candidate
from edgekd.search.dimensions import SpaceSettings
from edgekd.search.effects import Effects, EffectSettings, measure_effects
from edgekd.search.proxy import Proxy, kept_after_distillation
from edgekd.search.space import SearchSpace
from edgekd.search.tables import QualityTables
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.cost import unet_cost
from edgekd.student.resolve import full

TABLES = QualityTables(
    measured="a test",
    steps={2: 0.8, 4: 1.0},
    decoder_width={0.5: 0.9, 1.0: 1.0},
    precision={"fp32": 1.0, "int8": 0.7},
    slope=2.0,
    capacity=0.5,
)
EFFECTS = Effects({("mid", False): 0.25, ("pairs", 1): 0.5}, {})


def whole(arch):
    """No weight is missing."""
    return 1.0


class TinySpace:
    """Two dimensions of the U-Net, and the three of drawing."""

    @property
    def dimensions(self):
        return {
            "pairs": (2, 1),
            "mid": (True, False),
            "decoder_width": (1.0, 0.5),
            "precision": ("fp32", "int8"),
            "steps": (4, 2),
        }

    def candidate(self, choices):
        down = tuple(range(choices["pairs"]))
        arch = StudentArch(stages=(StageArch(down=down),), mid=choices["mid"])
        rest = {name: choices[name] for name in ("decoder_width", "steps", "precision")}
        return Candidate(arch=arch, **rest)

    def choices(self, candidate):
        stage, mid = candidate.arch.stages[0], candidate.arch.mid
        unet = {"pairs": len(stage.down), "mid": mid}
        return unet | {name: getattr(candidate, name) for name in list(self.dimensions)[2:]}


SPACE = TinySpace()


def quality(**choices):
    own = {name: options[0] for name, options in SPACE.dimensions.items()}
    return Proxy(SPACE, EFFECTS, TABLES, whole).quality(SPACE.candidate({**own, **choices}))


def test_the_teacher_keeps_all():
    assert quality() == 1


def test_kept_falls_with_damage_from_one_towards_zero():
    assert kept_after_distillation(0, 2) == 1
    assert kept_after_distillation(0.5, 2) == pytest.approx(math.exp(-1))
    assert 0 < kept_after_distillation(20, 2) < kept_after_distillation(1, 2)


def test_every_dimension_is_one_factor():
    assert quality(mid=False) == pytest.approx(math.exp(-0.5))
    assert quality(pairs=1, mid=False) == pytest.approx(math.exp(-1.5))
    assert quality(steps=2) == pytest.approx(0.8)
    assert quality(decoder_width=0.5) == pytest.approx(0.9)
    assert quality(precision="int8") == pytest.approx(0.7)
    together = quality(mid=False, steps=2, decoder_width=0.5, precision="int8")
    assert together == pytest.approx(math.exp(-0.5) * 0.8 * 0.9 * 0.7)


class SizeMeter:
    """A stand-in for measurements: damage grows with what is gone, and does not add up."""

    whole = unet_cost(full(THREE), THREE, (8, 8), 5).parameters

    def knows(self, arch):
        return True

    def damage(self, arch):
        kept = unet_cost(arch, THREE, (8, 8), 5).parameters / self.whole
        return math.sqrt(1 - kept)


def test_all_that_was_measured_composes_to_itself_in_the_search_space():
    """Whatever else a change brings with it: a width without a mid block, a stage that attends."""
    space = SearchSpace(SpaceSettings(THREE, SMALL_VAE, (4,), ("fp32",)))
    effects = measure_effects(SizeMeter(), space, EffectSettings(pairs=1000), Silent())
    proxy = Proxy(space, effects, TABLES, whole)
    assert len(effects.joint) > 50
    for changes in [(change,) for change in effects.single] + list(effects.joint):
        candidate = space.candidate({**space.full(), **dict(changes)})
        expected = SizeMeter().damage(candidate.arch)
        assert proxy.damage(candidate) == pytest.approx(expected, abs=1e-9), changes


def test_it_says_where_the_tables_were_measured():
    assert Proxy(SPACE, EFFECTS, TABLES, whole).measured == "a test"


def test_a_candidate_takes_well_below_a_millisecond():
    own = {name: options[0] for name, options in SPACE.dimensions.items()}
    proxy, candidate = Proxy(SPACE, EFFECTS, TABLES, whole), SPACE.candidate({**own, "mid": False})
    times = []
    for _ in range(20):
        start = time.process_time()
        for _ in range(50):
            proxy.quality(candidate)
        times.append(time.process_time() - start)
    assert min(times) / 50 < 2e-4


def test_weights_that_did_nothing_are_missed_a_little():
    candidate = SPACE.candidate({name: options[0] for name, options in SPACE.dimensions.items()})
    quarter = Proxy(SPACE, EFFECTS, TABLES, lambda arch: 0.25)
    assert quarter.quality(candidate) == pytest.approx(
        0.5 * Proxy(SPACE, EFFECTS, TABLES, whole).quality(candidate)
    )


def test_an_intact_student_predicts_as_its_teacher():
    proxy = Proxy(SPACE, EFFECTS, TABLES, whole)
    own = {name: options[0] for name, options in SPACE.dimensions.items()}
    assert proxy.is_intact(SPACE.candidate(own))
    assert not proxy.is_intact(SPACE.candidate({**own, "mid": False}))
