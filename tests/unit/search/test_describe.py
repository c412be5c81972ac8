import json
from pathlib import Path

import pytest

from edgekd.search.candidate import Candidate
from edgekd.search.describe import bytes_text, describe, milliseconds_text
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.resolve import preset, resolve


def config_of(folder: Path):
    return json.loads((folder / "unet" / "config.json").read_text())


def words(arch: StudentArch, config, **changes) -> str:
    values = {"decoder_width": 1.0, "steps": 2, "precision": "fp32", **changes}
    return describe(Candidate(arch=resolve(arch, config), **values), config)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full", "the whole U-Net"),
        ("bk-sdm-base", "one pair in every stage"),
        ("bk-sdm-small", "one pair in every stage, no mid block"),
        ("bk-sdm-tiny", "2 of 3 stages, one pair in every stage, no mid block"),
    ],
)
def test_presets(starter_teacher, name, expected):
    config = config_of(starter_teacher)
    assert words(preset(name, config), config) == f"2 steps, {expected}, fp32"


def test_what_a_stage_lacks(starter_teacher):
    config = config_of(starter_teacher)
    none = ((), ())
    stages = (
        StageArch(down=(0,), up=(0, 2)),
        StageArch(width=96, down_transformers=none, up_transformers=((), (), ())),
        StageArch(down=(0,), up=(0, 2)),
    )
    text = words(StudentArch(stages=stages), config, steps=1, decoder_width=0.5, precision="int8")
    assert text == (
        "1 step, one pair in stages 0 and 2, no attention in stage 1, "
        "96 of 128 channels in stage 1, decoder 0.5, int8"
    )


def test_transformer_blocks_and_stages_without_down_pairs():
    config = {
        "block_out_channels": (32, 64, 64),
        "norm_num_groups": 32,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 2),
        "attention_head_dim": (2, 4, 4),
    }
    depth = ((0,), (0,))
    last = StageArch(down_transformers=depth, up_transformers=((0,), (0,), (0,)))
    first = StageArch(down=(), up=(0,))
    arch = StudentArch(stages=(first, StageArch(), last), mid_transformers=(0,))
    assert words(arch, config) == (
        "2 steps, no pairs in stage 0, 5 of 10 transformer blocks in stage 2, "
        "1 of 2 transformer blocks in the mid block, fp32"
    )


def test_figures():
    times = [milliseconds_text(value) for value in (0.0123, 45.25, 904.6)]
    assert times == ["0.0123 ms", "45.2 ms", "905 ms"]
    sizes = [bytes_text(value) for value in (12, 4.2e3, 210e6, 1.5e9)]
    assert sizes == ["12 B", "4.2 kB", "210 MB", "1.5 GB"]
