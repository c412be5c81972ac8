"""Presets and archs fitted to their teachers, and what is refused."""

import copy
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.recipe import StudentSection
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import PRESETS, full, preset, resolve, resolve_arch

SD15 = ARCHITECTURES["sd15"]["unet"]
SDXL = ARCHITECTURES["sdxl"]["unet"]
SMALL = {
    **SD15,
    "block_out_channels": [64, 128, 192],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
}


@pytest.mark.parametrize("name", PRESETS[:-1])
@pytest.mark.parametrize("config", [SD15, SDXL, SMALL], ids=["sd15", "sdxl", "three stages"])
def test_presets_survive_a_round_trip_and_are_explicit(name, config):
    arch = preset(name, config)
    assert StudentArch.model_validate_json(arch.model_dump_json()) == arch
    assert resolve(arch, config) == arch


def test_bk_sdm_presets_of_sd15():
    base, small, tiny = (preset(name, SD15) for name in PRESETS[1:4])
    assert [stage.down for stage in base.stages] == [(0,)] * 4
    assert [stage.up for stage in base.stages] == [(0, 2)] * 4
    assert (base.mid, small.mid, tiny.mid) == (True, False, False)
    assert small.stages == base.stages
    assert tiny.stages == base.stages[:3]


def test_ssd_1b_of_sdxl_has_the_published_depths():
    """`transformer_layers_per_block` and its reverse in the `config.json` of segmind/SSD-1B."""
    config = to_unet_config(preset("ssd-1b", SDXL), SDXL)
    assert config["transformer_layers_per_block"][1:] == [2, 4]
    assert config["reverse_transformer_layers_per_block"][:2] == [[4, 4, 10], [2, 1, 1]]
    assert config["mid_block_type"] == "UNetMidBlock2D"
    assert config["layers_per_block"] == 2


def test_what_is_left_open_is_the_teachers():
    arch = StudentArch(stages=(StageArch(),) * 4)
    assert resolve(arch, SD15) == full(SD15)
    assert resolve(StudentArch(stages=(StageArch(),) * 3), SDXL) == full(SDXL)


def test_a_recipe_names_a_preset_or_writes_an_arch():
    named = resolve_arch(StudentSection(preset="bk-sdm-small", arch=None), SMALL)
    stage = {"down": [0], "up": [0, 2]}
    written = StudentSection(preset=None, arch={"stages": [stage] * 3, "mid": False})
    assert resolve_arch(written, SMALL) == named == preset("bk-sdm-small", SMALL)


def _arch(**changes: Any) -> dict[str, Any]:
    """bk-sdm-base of the three-stage teacher, with fields set by dotted path."""
    values = copy.deepcopy(preset("bk-sdm-base", SMALL).model_dump(mode="json"))
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        node: Any = values
        for part in parents:
            node = node[int(part) if part.isdigit() else part]
        node[leaf] = value
    return values


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (_arch(stages__1__depth=1), "unknown key `stages.1.depth`"),
        (_arch(stages=[{}] * 4), "at most the teacher's 3 stages"),
        (_arch(stages__0__width=32), "stage 0 must keep its width"),
        (_arch(stages__2__width=100), "multiple of the 32 GroupNorm groups"),
        (_arch(stages__1__width=256), "at most 128"),
        (_arch(stages__2__width=0), "at most 192"),
        (_arch(stages__2__width=160), "heads of 48 channels"),
        (_arch(stages__0__down=[2]), "rising indices out of [0, 1]"),
        (_arch(stages__0__up=[2, 0]), "rising indices"),
        (_arch(stages__0__up=[0], stages__0__up_transformers=[[0]]), "one pair more"),
        (_arch(stages__1__down=[1]), "must keep pair 0"),
        (_arch(stages__1__down=[], stages__1__up=[2], stages__1__down_transformers=[],
               stages__1__up_transformers=[[0]]), "must keep pair 0"),
        (_arch(stages__1__up=[1, 2]), "must have the 192 input channels"),
        (_arch(stages__0__up_transformers=[[0], []]), "in every pair or in none"),
        (_arch(stages__0__up_transformers=[[0]]), "one list for each of 2"),
        (_arch(stages__0__down_transformers=[[1]]), "rising indices out of [0]"),
        (_arch(mid_transformers=[1]), "rising indices out of [0]"),
        (_arch(stages=_arch()["stages"][:2]), "in heads of 48 channels"),
    ],
)  # fmt: skip
def test_bad_archs_are_refused(values, rule):
    with pytest.raises(InputError) as error:
        resolve_arch(StudentSection(preset=None, arch=values), SMALL)
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


def test_the_mid_block_is_as_deep_as_the_last_stage():
    shallow = full(SDXL).model_copy(update={"mid_transformers": (0, 1)})
    with pytest.raises(InputError, match="one number for both"):
        resolve(shallow, SDXL)


@pytest.mark.parametrize(
    ("name", "config", "rule"),
    [
        ("bk-sdm-huge", SD15, "must be one of full, bk-sdm-base"),
        ("bk-sdm-base", {**SD15, "layers_per_block": 1}, "two pairs"),
        ("bk-sdm-base", {**SD15, "mid_block_type": None}, "teacher with a mid block"),
        ("ssd-1b", SD15, "presets full, bk-sdm-base, bk-sdm-small, bk-sdm-tiny would do"),
        ("bk-sdm-tiny", {**SD15, "layers_per_block": 1}, "Of the presets full would do"),
        ("bk-sdm-base", {**SDXL, "mid_block_type": None}, "full, bk-sdm-small, bk-sdm-tiny would"),
        ("bk-sdm-base", {**SD15, "class_embed_type": "timestep"}, "class_embed_type"),
        ("bk-sdm-base", {**SD15, "dual_cross_attention": True}, "dual_cross_attention"),
        ("bk-sdm-base", {**SD15, "up_block_types": ["UpBlock2D"]}, "up_block_types"),
        ("bk-sdm-base", {**SD15, "mid_block_type": "Mid"}, "mid_block_type"),
        ("bk-sdm-base", {**SD15, "block_out_channels": "320"}, "block_out_channels"),
        ("bk-sdm-base", {**SD15, "block_out_channels": [330] * 4}, "norm_num_groups"),
        ("bk-sdm-base", {**SD15, "attention_head_dim": [8, 8]}, "attention_head_dim"),
        ("bk-sdm-base", {**SD15, "attention_head_dim": 7}, "number of heads"),
        ("bk-sdm-base", {**SD15, "transformer_layers_per_block": [1, 2]}, "one entry for each"),
        ("bk-sdm-base", {**SD15, "in_channels": None}, "in_channels"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(name, config, rule):
    with pytest.raises(InputError) as error:
        preset(name, config)
    assert rule in str(error.value)
