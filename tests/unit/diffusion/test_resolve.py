"""What users name as a pipeline."""

import os
import shutil
from pathlib import Path

import pytest

from edgekd.diffusion.resolve import is_checkpoint, resolve_pipeline
from edgekd.errors import InputError


def test_the_starter_and_a_folder_are_found(starter_teacher):
    assert resolve_pipeline("starter") == starter_teacher
    assert resolve_pipeline(str(starter_teacher)) == starter_teacher


def test_another_file_is_no_pipeline(tmp_path):
    file = tmp_path / "model.zip"
    file.write_bytes(b"")
    for name, found in ((str(file), "a file"), ("org/some-model", "no such folder")):
        with pytest.raises(InputError, match=f"the student must be a local .*{found}"):
            resolve_pipeline(name, "student")


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
def test_pickles_are_refused_with_the_safe_way(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"\x80")
    with pytest.raises(InputError, match=r"never loaded.*weights_only=True.*save_file") as error:
        resolve_pipeline(str(file), "teacher")
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_a_file_of_that_suffix(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "folder.safetensors").mkdir()
    assert is_checkpoint(tmp_path / "model.safetensors")
    assert not is_checkpoint(tmp_path / "folder.safetensors")
    assert not is_checkpoint(tmp_path / "none.safetensors")


def cache(root: Path, *snapshots: tuple[str, int], main: str | None = None) -> Path:
    """The Hub's cache of a repository, with snapshots of given age."""
    for name, time in snapshots:
        folder = root / "snapshots" / name
        folder.mkdir(parents=True)
        (folder / "model_index.json").write_text("{}")
        os.utime(folder / "model_index.json", (time, time))
    if main is not None:
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(f"{main}\n")
    return root


def test_the_newest_snapshot_of_a_cache(tmp_path):
    root = cache(tmp_path / "models--org--name", ("new", 2000), ("old", 1000), main="old")
    assert resolve_pipeline(str(root)) == root / "snapshots" / "new"


def test_main_is_the_newest_of_a_copy_without_times(tmp_path):
    root = cache(tmp_path / "a", ("one", 1000), ("two", 1000), ("three", 1000), main="two")
    assert resolve_pipeline(str(root)) == root / "snapshots" / "two"


def test_a_pipe_in_a_cache_is_not_waited_for(tmp_path):
    root = cache(tmp_path / "a", ("one", 1000), main="one")
    (root / "refs" / "main").unlink()
    os.mkfifo(root / "refs" / "main")
    assert resolve_pipeline(str(root)) == root / "snapshots" / "one"


def test_a_snapshot_without_a_pipeline_is_passed_over(tmp_path):
    root = cache(tmp_path / "a", ("whole", 1000))
    (root / "snapshots" / "begun").mkdir()
    assert resolve_pipeline(str(root)) == root / "snapshots" / "whole"
    shutil.rmtree(root / "snapshots" / "whole")
    assert resolve_pipeline(str(root)) == root
