import pytest

from edgekd.errors import InputError
from edgekd.export.stage import chosen_precisions
from edgekd.recipe import ExportSection
from edgekd.target import Target, load_target


def _target(**changes: object) -> Target:
    return load_target("onnx").model_copy(update=changes)


def test_precisions_follow_the_targets_order():
    target = _target(precisions=["int8", "fp32"])
    assert chosen_precisions(target, ExportSection()) == ["int8", "fp32"]
    section = ExportSection(precisions=["fp32", "int8"])
    assert chosen_precisions(target, section) == ["int8", "fp32"]
    assert chosen_precisions(target, ExportSection(precisions=["fp32"])) == ["fp32"]


def test_precision_that_the_target_does_not_list_is_refused():
    with pytest.raises(InputError, match=r"fp32, int8.*int4"):
        chosen_precisions(_target(), ExportSection(precisions=["fp32", "int4"]))
