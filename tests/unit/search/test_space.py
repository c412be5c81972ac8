"""Every combination of choices is a legal candidate, and every student of the space is found."""

import time
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.teachers import ODD, PUBLISHED, SMALL_VAE
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.errors import GateError, InputError
from edgekd.libraries import diffusers
from edgekd.search.candidate import Candidate
from edgekd.search.dimensions import SpaceSettings
from edgekd.search.space import SearchSpace
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.layout import unet_layers
from edgekd.student.plan import plan_student
from edgekd.student.resolve import PRESETS, full, preset, resolve

UNETS = {**{name: parts["unet"] for name, parts in PUBLISHED.items()}, **ODD}


@cache
def make_space(name: str) -> SearchSpace:
    vae = PUBLISHED[name]["vae"] if name in PUBLISHED else SMALL_VAE
    return SearchSpace(SpaceSettings(UNETS[name], vae, (10, 4, 2), ("fp32", "int8")))


def choices_of(space: SearchSpace) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {name: st.sampled_from(options) for name, options in space.dimensions.items()}
    )


def channels(candidate: Candidate) -> int:
    """A stand-in for a cost: falls with steps, pairs, widths, depth, the mid block and stages."""
    arch = candidate.arch
    total = 1000 if arch.mid else 0
    for stage in arch.stages:
        assert stage.width
        blocks = sum(map(len, (*(stage.down_transformers or ()), *(stage.up_transformers or ()))))
        total += stage.width * (len(stage.down or ()) + len(stage.up or ()) + blocks)
    return int(candidate.steps * total * candidate.decoder_width)


@pytest.mark.parametrize("name", UNETS)
def test_every_choice_is_a_legal_explicit_candidate(name):
    space, unet = make_space(name), UNETS[name]

    @settings(max_examples=40, deadline=None)
    @given(choices_of(space))
    def check(choices):
        candidate = space.candidate(choices)
        assert resolve(candidate.arch, unet) == candidate.arch
        assert Candidate.model_validate_json(candidate.model_dump_json()) == candidate
        canonical = space.choices(candidate)
        assert space.candidate(canonical) == candidate
        assert space.choices(space.candidate(canonical)) == canonical

    check()


@pytest.mark.parametrize("name", UNETS)
def test_every_candidate_is_a_stock_model(name):
    space, unet = make_space(name), UNETS[name]

    @settings(max_examples=4, deadline=None)
    @given(choices_of(space))
    def check(choices):
        arch = space.candidate(choices).arch
        with torch.device("meta"):
            model = diffusers.UNet2DConditionModel.from_config(to_unet_config(arch, unet))
        found = {
            name.removesuffix(".weight"): tuple(value.shape)
            for name, value in model.state_dict().items()
            if name.endswith(".weight")
        }
        layers = unet_layers(plan_student(arch, unet))
        assert found == {layer.name: layer.shape() for layer in layers}

    check()


@pytest.mark.parametrize("name", [name for name in UNETS if name not in ("no text", "as SSD-1B")])
def test_every_student_reads_its_text(name):
    space = make_space(name)
    quiet = {key: "none" for key in space.dimensions if key.endswith(".attention")}
    for mid in space.dimensions["mid"]:
        for pairs in (0, -1):
            layouts = {
                key: options[pairs]
                for key, options in space.dimensions.items()
                if key.endswith(".pairs")
            }
            choices = {**space.full(), **layouts, **quiet, "mid": mid}
            arch = space.candidate(choices).arch
            attending = [
                s
                for s, stage in enumerate(arch.stages)
                if any((*(stage.down_transformers or ()), *(stage.up_transformers or ())))
            ]
            able = [s for s in range(len(arch.stages)) if f"stages.{s}.attention" in quiet]
            assert attending == ([] if arch.mid else able[-1:])


@pytest.mark.parametrize("name", UNETS)
def test_the_full_choice_is_the_teacher(name):
    space = make_space(name)
    candidate = space.candidate(space.full())
    assert candidate.arch == full(UNETS[name])
    assert (candidate.decoder_width, candidate.steps, candidate.precision) == (1.0, 10, "fp32")
    assert space.choices(candidate) == space.full()


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("student", PRESETS[:-1])
def test_presets_are_in_the_space(name, student):
    space, arch = make_space(name), preset(student, UNETS[name])
    candidate = Candidate(arch=arch, decoder_width=0.5, steps=2, precision="int8")
    assert space.candidate(space.choices(candidate)) == candidate


def test_depth_of_the_mid_block():
    """As the first down pair of the last stage where that attends, else as the innermost stage."""
    space = make_space("sdxl")
    for attention, removed, expected in [
        ("both", 0, (0, 5, 9)),
        ("none", 0, (0, 5, 9)),
        ("both", 1, (0, 9)),
    ]:
        choices = {
            **space.full(),
            "stages.2.depth": 3,
            "stages.2.attention": attention,
            "removed_stages": removed,
        }
        assert space.candidate(choices).arch.mid_transformers == expected


def test_the_mid_block_is_dropped_where_it_does_not_fit():
    starter = make_space("starter")
    # 128 channels are no whole heads of 48; stage 1 has heads of 32.
    for change in ({"stages.2.width": 128}, {"removed_stages": 1}):
        assert not starter.candidate({**starter.full(), **change}).arch.mid
    deep = make_space("a mid block deeper than its stage")
    choices = {**deep.full(), "removed_stages": 1}
    assert not deep.candidate(choices).arch.mid
    shallow = deep.candidate({**choices, "stages.1.depth": 2}).arch
    assert shallow.mid_transformers == (0, 3)

    narrow = make_space("a narrow innermost stage")
    # Stage 1 has 48 channels, whole heads of 16, but the mid block has 32.
    choices = {**narrow.full(), "removed_stages": 2, "stages.1.attention": "none"}
    assert not narrow.candidate(choices).arch.mid


def test_what_has_no_effect_does_not_show():
    space = make_space("sd15")
    removed = {**space.full(), "removed_stages": 2}
    changed = {**removed, "stages.2.width": 640, "stages.3.pairs": "- | 0"}
    assert space.candidate(changed) == space.candidate(removed)
    empty = {**space.full(), "stages.3.pairs": "- | 0", "stages.2.width": 960}
    candidate = space.candidate({**empty, "stages.3.width": 640})
    assert candidate == space.candidate(empty)
    assert candidate.arch.stages[3].width == 960


def test_dimensions_list_what_there_is_to_choose():
    space = make_space("starter")
    assert list(space.dimensions) == [
        "removed_stages",
        "stages.0.pairs", "stages.0.attention",
        "stages.1.pairs", "stages.1.width", "stages.1.attention",
        "stages.2.pairs", "stages.2.width",
        "mid", "decoder_width", "precision", "steps",
    ]  # fmt: skip
    assert space.size == 3 * (4 * 4) * (2 * 3 * 4) * (2 * 3) * 2 * 3 * 2 * 3
    # The five that are no stage's are listed without a choice too.
    quiet = make_space("no text").dimensions
    assert (quiet["mid"], quiet["removed_stages"]) == ((False,), (0,))


def test_samples_are_seeded_and_spread():
    space = make_space("sdxl")
    first, again = ([space.sample(np.random.default_rng(3)) for _ in range(2)] for _ in range(2))
    assert first == again
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(200)]
    for name, options in space.dimensions.items():
        assert {choices[name] for choices in drawn} == set(options)


def test_thousands_of_candidates_a_second():
    """Of processor time, the least of five rounds: other processes may hold the core meanwhile."""
    space, rng = make_space("starter"), np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(200)]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        for choices in drawn:
            space.candidate(choices)
        seconds.append(time.process_time() - start)
    assert len(drawn) / min(seconds) >= 5000


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"steps": 3}, "`steps` must be one of 10, 4, 2"),
        ({"stages.1.width": 100}, "`stages.1.width` must be one of 128, 96, 64"),
        ({"stages.7.width": 64}, "missing or unknown: stages.7.width"),
    ],
)
def test_choices_that_are_not_on_offer_are_refused(change, rule):
    space = make_space("starter")
    with pytest.raises(InputError) as error:
        space.candidate({**space.full(), **change})
    assert rule in str(error.value)


def test_a_missing_choice_is_refused():
    with pytest.raises(InputError, match="missing or unknown"):
        make_space("starter").candidate({"steps": 10})


def test_candidates_outside_are_refused():
    space, unet = make_space("starter"), UNETS["starter"]
    inside = space.candidate(space.full())
    stages = (StageArch(), StageArch(), StageArch(width=64))
    narrow = resolve(StudentArch(stages=stages, mid=False), unet)
    late = StageArch(down=(0,), up=(1, 2))
    other = resolve(StudentArch(stages=(StageArch(), StageArch(), late)), unet)
    stretched = StudentArch(stages=(*inside.arch.stages, inside.arch.stages[2]))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"steps": 7}, "steps"),
        ({"arch": narrow}, "stages.2.width"),
        ({"arch": other}, "stages.2.pairs"),
        ({"arch": stretched}, "removed_stages"),
    ]
    for change, dimension in changes:
        with pytest.raises(InputError, match=f"in the search space.*{dimension}"):
            space.choices(inside.model_copy(update=change))


def test_candidates_of_another_teacher_or_not_explicit_are_refused():
    space = make_space("starter")
    explicit = space.candidate(space.full())
    first, *others = explicit.arch.stages
    bare = first.model_copy(update={"down_transformers": None, "up_transformers": None})
    open_arch = explicit.arch.model_copy(update={"stages": (bare, *others)})
    archs = [StudentArch(stages=(StageArch(),) * 3), open_arch]
    archs += [full(UNETS[name]) for name in ("sd15", "sdxl", "attention one way")]
    for arch in archs:
        with pytest.raises(InputError, match="in the search space"):
            space.choices(explicit.model_copy(update={"arch": arch}))


def test_a_depth_outside_is_refused():
    space = make_space("sdxl")
    stages = (StageArch(), StageArch(), StageArch(up_transformers=((0,), (0, 1), (3,))))
    arch = resolve(StudentArch(stages=stages), UNETS["sdxl"])
    candidate = space.candidate(space.full()).model_copy(update={"arch": arch})
    with pytest.raises(InputError, match="in the search space"):
        space.choices(candidate)


@pytest.mark.parametrize("name", ["starter", "sdxl", "attention one way"])
def test_a_limit_is_always_kept(name):
    space = make_space(name)
    least = channels(space.candidate(space.cheapest()))
    most = channels(space.candidate(space.full()))

    @settings(max_examples=25, deadline=None)
    @given(choices_of(space), st.floats(0, 1))
    def check(choices, share):
        limit = least + share**3 * (most - least)
        found = space.fit(choices, lambda candidate: channels(candidate) <= limit)
        candidate = space.candidate(found)
        assert channels(candidate) <= limit
        assert space.fit(choices, lambda candidate: channels(candidate) <= limit) == found
        asked = space.candidate(choices)
        if channels(asked) <= limit:
            assert candidate == asked

    check()


def test_steps_are_given_up_before_blocks_and_no_more_than_needed():
    space = make_space("starter")
    whole = channels(space.candidate(space.full()))
    for limit, steps in [(whole, 10), (whole // 2, 4), (whole // 5, 2)]:
        found = space.fit(space.full(), lambda candidate, at=limit: channels(candidate) <= at)
        assert found == {**space.full(), "steps": steps}
    smaller = space.fit(space.full(), lambda candidate: channels(candidate) <= whole // 40)
    assert (smaller["steps"], smaller["decoder_width"]) == (2, 0.25)
    assert smaller["removed_stages"] == 0


def test_what_does_not_help_is_not_given_up():
    """A limit that steps and precision do not touch leaves them as they were."""
    space = make_space("starter")
    found = space.fit(space.full(), lambda candidate: not candidate.arch.mid)
    assert found == {**space.full(), "mid": False}


def test_a_precision_that_is_cheap_only_here_is_found():
    space = make_space("starter")
    asked = {**space.full(), "precision": "int8"}
    found = space.fit(asked, lambda candidate: candidate.precision == "fp32")
    assert found == space.full()


def test_a_limit_that_nothing_keeps():
    space = make_space("starter")
    with pytest.raises(GateError) as error:
        space.fit(space.full(), lambda _: False)
    assert "not even the smallest, stages of [64] channels" in str(error.value)
    assert "2 steps" in str(error.value)
