import pytest

from edgekd.errors import InputError
from edgekd.reading import Fields
from edgekd.runtime.options import RuntimeOptions, read_options


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, RuntimeOptions(arithmetic="f32")),
        ({"precision": "int8"}, RuntimeOptions()),
        ({"tuning": None}, RuntimeOptions(arithmetic="f32")),
        (
            {
                "tuning": {
                    "chosen": {
                        "threads": 2,
                        "optimization": "extended",
                        "memory_pattern": False,
                        "arena": False,
                        "fused_guidance": False,
                    }
                }
            },
            RuntimeOptions(2, False, "extended", False, False, "f32"),
        ),
        (
            {
                "runtime": "openvino",
                "precision": "int8",
                "tuning": {"chosen": {"arithmetic": "bf16", "threads": 0, "streams": 2}},
            },
            RuntimeOptions(arithmetic="bf16", streams=2),
        ),
    ],
)
def test_measured_options(values, expected):
    manifest = Fields("manifest.json", {"runtime": "onnx", "precision": "fp32", **values})
    assert read_options(manifest) == expected


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"warp": 9}, "must be known options, but got warp"),
        ({"__doc__": "x"}, "must be known options"),
        ({"threads": -1}, "`tuning.chosen.threads` of a manifest must be usable, but got -1"),
        ({"threads": True}, "must be usable"),
        ({"arena": 1}, "must be usable"),
        ({"optimization": "most"}, "must be usable, but got 'most'"),
        ({"arithmetic": "f8"}, "must be usable"),
    ],
)
def test_options_that_are_refused(chosen, message):
    manifest = Fields("manifest.json", {"precision": "fp32", "tuning": {"chosen": chosen}})
    with pytest.raises(InputError, match=message):
        read_options(manifest)
