import json
from typing import get_args

import pytest

from edgekd.cli.options import SamplerOption, goal_assignments, read_recipe, student_assignments
from edgekd.errors import InputError
from edgekd.runtime.sampler_names import ALIASES
from edgekd.student.arch import StudentArch


def _student(student, assignments=()):
    return read_recipe("starter", [*student_assignments(student), *assignments], None, None).student


def test_a_student_is_a_preset_or_an_architectures_file(tmp_path):
    assert _student(None).searched
    assert _student("bk-sdm-tiny").preset == "bk-sdm-tiny"
    arch = StudentArch.model_validate({"stages": [{"down": [0]}, {}], "mid": False})
    path = tmp_path / "3.json"
    path.write_text(arch.model_dump_json())
    found = _student(str(path))
    assert found.preset is None
    assert StudentArch.model_validate(found.arch) == arch


def test_a_student_is_a_point_of_a_front(tmp_path):
    point = {"arch": {"stages": [{}]}, "decoder_width": 0.5, "steps": 2, "precision": "fp32"}
    path = tmp_path / "3.json"
    path.write_text(json.dumps(point))
    assert _student(str(path)).candidate == point


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1'])
def test_an_architectures_file_must_hold_one(tmp_path, text):
    path = tmp_path / "student.json"
    path.write_text(text)
    with pytest.raises(InputError):
        _student(str(path))


def test_an_assignment_may_not_contradict_the_file(tmp_path):
    path = tmp_path / "student.json"
    path.write_text(json.dumps({"stages": [{}]}))
    with pytest.raises(InputError, match="one student must be given at most"):
        _student(str(path), ["student.preset=full"])


def test_a_goal_takes_the_place_of_the_recipes(run_cli):
    assert goal_assignments(None, None) == []
    search = read_recipe("starter", goal_assignments(5.0, None), None, None).search
    assert (search.latency_ms, search.speedup) == (5.0, None)
    code, _, err = run_cli("distill", "--speedup", "4", "--student", "bk-sdm-tiny")
    assert (code, "are goals of a search" in err) == (2, True)


def test_the_help_names_every_sampler():
    """It is written out there: to load the runtime takes longer than to show a help."""
    _, option = get_args(SamplerOption)
    assert option.help.startswith(", ".join(ALIASES) + ", or ")
