"""Student configs are stock configs: published ones, and any arch at all builds and loads."""

import random
from typing import Any

import pytest
import torch

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.student.arch import StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.mapping import IDENTITY, ZEROS, tensor_map
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import PRESETS, full, preset

SD15 = ARCHITECTURES["sd15"]["unet"]
SD21 = ARCHITECTURES["sd21"]["unet"]
SDXL = ARCHITECTURES["sdxl"]["unet"]
ATTENTIVE = ["CrossAttnDownBlock2D"] * 3, ["CrossAttnUpBlock2D"] * 3
# The U-Net configs that BK-SDM's authors published, where they differ from the teacher's.
SHORT = {"layers_per_block": 1}
HEADLESS = {**SHORT, "mid_block_type": None}
TINY = {
    **HEADLESS,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ATTENTIVE[0],
    "up_block_types": ATTENTIVE[1],
}


def _meta(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict of a stock model without memory."""
    with torch.device("meta"):
        state: dict[str, torch.Tensor] = diffusers.UNet2DConditionModel.from_config(
            config
        ).state_dict()
    return state


@pytest.mark.parametrize(
    ("teacher", "name", "published", "parameters"),
    [
        (SD15, "bk-sdm-base", SHORT, 579_384_964),
        (SD15, "bk-sdm-small", HEADLESS, 482_346_884),
        (SD15, "bk-sdm-tiny", TINY, 323_384_964),
        (SD21, "bk-sdm-base", SHORT, 583_480_964),
        (SD21, "bk-sdm-small", HEADLESS, 485_787_524),
        (SD21, "bk-sdm-tiny", {**TINY, "attention_head_dim": [5, 10, 20]}, 326_825_604),
    ],
)
def test_presets_give_the_published_configs(teacher, name, published, parameters):
    config = to_unet_config(preset(name, teacher), teacher)
    assert config == {**teacher, **published}
    state = _meta(config)
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    sources = tensor_map(preset(name, teacher), teacher)
    assert set(sources) == set(state)
    # Equal widths: whole teacher tensors, nothing to choose.
    assert all(source.kept == (None,) * state[t].dim() for t, source in sources.items())


def test_a_full_arch_has_the_teachers_config(unet_config):
    config = to_unet_config(full(unet_config), {**unet_config, "_name_or_path": "somewhere"})
    del unet_config["_diffusers_version"]
    assert config == unet_config


def test_old_configs_get_no_key_they_do_not_need():
    assert set(to_unet_config(preset("bk-sdm-tiny", SD15), SD15)) == set(SD15)


@pytest.mark.parametrize(
    ("teacher", "arch", "expected"),
    [
        (
            SDXL,
            {"stages": [{}, {"down_transformers": [[0], [0, 1]]},
                        {"down_transformers": [[0], [3]], "up_transformers": [[0, 1], [2], [9]]}],
             "mid_transformers": [5]},
            {"transformer_layers_per_block": [1, [1, 2], 1],
             "reverse_transformer_layers_per_block": [[2, 1, 1], 2, 1]},
        ),
        (
            SD15,
            {"stages": [{"down_transformers": [[], []]}, {}, {}, {}]},
            {"down_block_types": ["DownBlock2D", *ATTENTIVE[0][:2], "DownBlock2D"],
             "up_block_types": ["UpBlock2D", *ATTENTIVE[1]]},
        ),
        (
            SD15,
            {"stages": [{}, {"width": 320}, {"width": 640}, {"width": 640}]},
            {"attention_head_dim": [8, 4, 4, 4], "block_out_channels": [320, 320, 640, 640]},
        ),
    ],
    ids=["depths that differ up and down are written for both ways",
         "a stage that lost its attention is plain", "heads keep their size"],
)  # fmt: skip
def test_what_an_arch_changes(teacher, arch, expected):
    config = to_unet_config(StudentArch.model_validate(arch), teacher)
    assert {key: config[key] for key in expected} == expected


def _random_arch(config: dict[str, Any], rng: random.Random) -> StudentArch:
    """Any subset of anything; many are refused."""

    def subset(items: Any, count: int) -> list[int]:
        return sorted(rng.sample(items, count))

    def blocks(kept: list[int], transformers: Any) -> list[list[int]]:
        plain = rng.random() < 0.1
        depths = [len(transformers[pair]) for pair in kept]
        return [
            subset(transformers[pair], 0 if plain else rng.randint(min(1, depth), depth))
            for pair, depth in zip(kept, depths, strict=True)
        ]

    whole = full(config).model_dump()
    stages = []
    for stage in whole["stages"][: rng.randint(2, len(whole["stages"]))]:
        width, kept = stage["width"], rng.choice([0, 1, 1, 2, 2])
        down, up = subset(stage["down"], kept), subset(stage["up"], kept + 1)
        stages.append({
            "width": rng.choice([width, width, width // 2]) if stages else width,
            "down": down, "down_transformers": blocks(down, stage["down_transformers"]),
            "up": up, "up_transformers": blocks(up, stage["up_transformers"]),
        })  # fmt: skip
    mid, depth = rng.random() < 0.5, len(whole["mid_transformers"])
    kept_mid = subset(whole["mid_transformers"], rng.randint(1, depth)) if mid else None
    return StudentArch.model_validate({"stages": stages, "mid": mid, "mid_transformers": kept_mid})


def test_every_accepted_arch_builds_and_inherits(unet_config):
    """Names and shapes of the stock model are those of the map, for random archs."""
    config = unet_config
    teacher = {name: torch.ones(value.shape) for name, value in _meta(config).items()}
    rng = random.Random(0)
    accepted = chosen = 0
    for _ in range(400):
        arch = _random_arch(config, rng)
        try:
            student = _meta(to_unet_config(arch, config))
        except InputError:
            continue
        sources = tensor_map(arch, config, teacher)
        assert set(sources) == set(student)
        for name, source in sources.items():
            if source.tensor in (IDENTITY, ZEROS):
                shape = [len(index) for index in source.kept if index is not None]
                assert shape == list(student[name].shape)
                continue
            full_shape = teacher[source.tensor].shape
            shape = [
                size if index is None else len(index)
                for size, index in zip(full_shape, source.kept, strict=True)
            ]
            assert shape == list(student[name].shape), name
            for size, index in zip(full_shape, source.kept, strict=True):
                assert index is None or ((index.diff() > 0).all() and index.max() < size)
        accepted += 1
        chosen += any(i is not None for source in sources.values() for i in source.kept)
        if accepted == 8:
            break
    assert accepted == 8
    assert chosen >= 2


def test_presets_fit_sdxl_too():
    """Tiny removes the stage that holds most of SDXL's transformers."""
    parameters = []
    for name in PRESETS:
        config = to_unet_config(preset(name, SDXL), SDXL)
        parameters.append(sum(value.numel() for value in _meta(config).values()))
    assert parameters == [2_567_463_684, 1_717_277_764, 1_304_160_324, 114_386_884, 1_331_334_404]
