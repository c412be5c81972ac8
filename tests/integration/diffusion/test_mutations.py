"""Whatever is done to a folder's JSON, it is accepted or refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.diffusion.validate import inspect_folder
from edgekd.errors import InputError

FILES = [
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 3, 7, 10**6, 10**12, 10**400]),
    st.sampled_from([0.5, -1.0, float("nan"), float("inf"), 1e300]),
    st.sampled_from(["", "silu", "../x", "\ud800", "AutoencoderKL", "a" * 5000]),
    st.sampled_from([[], {}, [1, 2], [[1], [2]], [None], {"content": 3}, ["diffusers", "X"]]),
)


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


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 99), st.one_of(st.just(...), ODD))
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
