"""Whatever is done to a folder, it is accepted or refused in one line.

Folders of pipelines, of exports and of runs. Some two thousand mutations were tried by hand, a few
hundred are here.
"""

import json
import random
import shutil
from pathlib import Path

import pytest
from fixtures.exported import write_export
from fixtures.mutations import ODD, attempt, mutated
from fixtures.reports import make_report
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.diffusion.load import load_pipeline
from edgekd.diffusion.validate import inspect_folder
from edgekd.errors import InputError
from edgekd.file_record import damage, finish, read_record
from edgekd.files import write_json
from edgekd.folders import finished
from edgekd.jobs.report import compare_run
from edgekd.run_folder import MARKER, check_run
from edgekd.runtime.pipeline import Pipeline

FILES = [
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
]


@pytest.fixture(scope="module")
def folder(shallow_teacher, tmp_path_factory) -> Path:
    return Path(shutil.copytree(shallow_teacher, tmp_path_factory.mktemp("mutated") / "teacher"))


def judge(folder: Path, path: Path, content: bytes) -> None:
    """Acceptance or one line, with other content in one file."""
    original, said = path.read_bytes(), ""
    path.write_bytes(content)
    try:
        inspect_folder(folder)
    except InputError as error:
        said = str(error)
    finally:
        path.write_bytes(original)
    assert "\n" not in said


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 99), st.one_of(st.just(...), st.sampled_from(ODD)))
def test_a_changed_value_is_no_traceback(folder, file, place, value):
    path = folder / file
    values = json.loads(path.read_text(encoding="utf-8"))
    key = sorted(values)[place % len(values)]
    changed = {name: old for name, old in values.items() if name != key}
    if value is not ...:
        changed[key] = value
    judge(folder, path, json.dumps(changed).encode())


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "3", "null", '"a"', "[" * 10**5, "\xff"])
def test_other_content_is_no_traceback(folder, file, content):
    judge(folder, folder / file, content.encode("latin-1"))


def test_a_vocabulary_of_words_is_one_line(folder):
    """Found by the mutations below: ids were compared with a number."""
    path = folder / "tokenizer" / "vocab.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), "cat": "one"}
    original = path.read_bytes()
    path.write_text(json.dumps(values), encoding="utf-8")
    try:
        with pytest.raises(InputError, match=r"CLIP tokenizer|must be integers"):
            inspect_folder(folder)
    finally:
        path.write_bytes(original)


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("mutated") / "export")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The records of a run, and its report."""
    root = tmp_path_factory.mktemp("mutated") / "run"
    for name in ("prepared", "report"):
        (root / name).mkdir(parents=True)
        (root / name / "report.json").write_text(make_report().model_dump_json(), encoding="utf-8")
        finish(root / name, "key", count=3)
    write_json(root / MARKER, {"kind": "distill", "pid": 1})
    return root


def tries(folder: Path, use, count: int) -> None:
    rng, refused = random.Random(count), 0
    assert attempt(use) == ""
    for _ in range(count):
        with mutated(folder, rng):
            refused += bool(attempt(use))
    assert 0 < refused < count
    assert attempt(use) == ""


def test_pipeline_folders(folder):
    tries(folder, lambda: load_pipeline(folder), 30)


def test_exported_folders(export):
    tries(export, lambda: Pipeline.open(str(export)).generate(["a"], steps=1), 100)


def test_run_folders(run):
    def use() -> None:
        for name in ("prepared", "report"):
            record = read_record(run / name)
            if record is not None:
                damage(run / name, record, thorough=True)
            finished(run / name, "key")
        check_run(run, "distill")
        compare_run([run], [], None)

    tries(run, use, 120)
