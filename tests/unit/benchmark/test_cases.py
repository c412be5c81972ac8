import json
import shutil
from dataclasses import replace

import pytest

from edgekd.benchmark.cases import Case, check_cases
from edgekd.errors import InputError
from edgekd.recipe import RowGeneration


@pytest.fixture
def teacher(tiny_teacher) -> Case:
    return Case("teacher", "teacher", "torch", "fp32", tiny_teacher)


def test_key_follows_content_and_generation_not_bookkeeping(teacher, tmp_path):
    copy = replace(teacher, path=tmp_path / "copy", name="other")
    shutil.copytree(teacher.path, copy.path)
    (copy.path / "manifest.json").write_text('{"seconds": 3}')
    assert copy.key() == teacher.key()
    for chosen in ({"memory_pattern": True}, {"memory_pattern": False}):  # by `export --tune`
        before = copy.key()
        (copy.path / "manifest.json").write_text(json.dumps({"tuning": {"chosen": chosen}}))
        assert copy.key() != before
    (copy.path / "manifest.json").write_text("{}")
    (copy.path / "scheduler" / "scheduler_config.json").write_text("{}")
    assert copy.key() != teacher.key()
    assert replace(teacher, precision="int8").key() != teacher.key()
    few, guided = (RowGeneration("DDIMScheduler", 4, scale) for scale in (1.0, 1.0000001))
    keys = {replace(teacher, generation=one).key() for one in (None, few, guided)}
    assert len(keys) == 3


def test_a_matrix_that_could_not_be_read_is_refused(teacher, tmp_path):
    student = replace(teacher, name="student", role="student")
    check_cases([teacher, student])
    refused = {
        "names of a benchmark's rows must differ": [teacher, replace(student, name="teacher")],
        "must have a teacher row that runs here, but got student": [student],
        "must have a teacher row": [replace(teacher, not_executed="no device"), student],
        "no rows": [],
        "row `student` must be a pipeline folder": [teacher, replace(student, path=tmp_path)],
    }
    for message, cases in refused.items():
        with pytest.raises(InputError, match=message):
            check_cases(cases)
