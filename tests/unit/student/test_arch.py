"""StudentArch as data: it survives JSON, is a value, and holds to its schema."""

from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.schema import validate
from edgekd.student.arch import StudentArch

PLAIN: dict[str, Any] = {
    "stages": [
        {"width": 64, "down": [0], "up": [0, 2], "down_transformers": [[0]],
         "up_transformers": [[0], [1, 2]]},
        {"down": [], "down_transformers": []},
    ],
    "mid_transformers": [0, 1],
}  # fmt: skip


def test_an_arch_survives_json_and_is_a_value():
    arch = validate(StudentArch, PLAIN, "arch")
    again = StudentArch.model_validate_json(arch.model_dump_json())
    assert again == arch
    assert len({again, arch, StudentArch(stages=arch.stages)}) == 2
    assert arch.stages[0].up_transformers == ((0,), (1, 2))
    with pytest.raises(ValueError, match="frozen"):
        arch.mid = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"mid": True}, "`stages` is missing"),
        ({"stages": 7}, "`stages`: Input should be a valid tuple"),
        ({"stages": []}, "`stages`: Tuple should have at least 1 item"),
        ({"stages": [7]}, "`stages.0`: Input should be a valid dictionary"),
        ({"stages": [{}], "widths": [64]}, "unknown key `widths`"),
        ({"stages": [{}, {"depth": 1}]}, "unknown key `stages.1.depth`"),
        ({"stages": [{}], "mid": 1}, "`mid`: Input should be a valid boolean"),
        ({**PLAIN, "mid": False}, "must be left out without a mid block, but got [0, 1]"),
        ({"stages": [{"width": "128"}]}, "`stages.0.width`: Input should be a valid integer"),
        ({"stages": [{"width": True}]}, "`stages.0.width`: Input should be a valid integer"),
        ({"stages": [{"down": [0.0]}]}, "`stages.0.down.0`: Input should be a valid integer"),
        ({"stages": [{"up_transformers": [0]}]}, "`stages.0.up_transformers.0`: Input should be"),
        ({"stages": [{"up_transformers": [None]}]}, "(got None)"),
    ],
)
def test_what_is_no_arch_is_refused_in_one_line(values, rule):
    with pytest.raises(InputError) as error:
        validate(StudentArch, values, "`student.arch`")
    assert rule in str(error.value)
    assert "\n" not in str(error.value)
