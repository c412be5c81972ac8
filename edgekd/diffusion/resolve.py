"""From what a user names to a pipeline folder.

Named are the starter, a folder, the root of a repository in the Hub's cache, or a checkpoint in one
file. Whether the folder is a usable pipeline, `edgekd.diffusion.validate` decides.
"""

from __future__ import annotations

import atexit
import contextlib
from functools import lru_cache
from pathlib import Path

from edgekd.errors import InputError
from edgekd.file_record import check_given
from edgekd.reading import read_text
from edgekd.resources import STARTER, STARTER_NAME

_INDEX_FILE = "model_index.json"
_CHECKPOINT = ".safetensors"
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def resolve_pipeline(name: str, role: str = "pipeline", keep: Path | None = None) -> Path:
    """The folder of a pipeline: `starter`, or a path to a folder or a checkpoint.

    Args:
        role: what the message calls it.
        keep: the folder to make of a checkpoint; None: one that this process removes in the end.

    Raises:
        InputError: the path is neither, the checkpoint cannot be imported, or a folder of edgekd's
            is damaged.
    """
    if name == STARTER_NAME:
        return STARTER / "teacher"
    path = Path(name).expanduser()
    if path.is_dir():
        check_given(path)
        return _newest_snapshot(path)
    if is_checkpoint(path):
        return _imported(path) if keep is None else _import(path, keep)
    if path.is_file() and path.suffix in _PICKLES:
        raise InputError(
            f"the {role} must be safetensors, pickles can run code and are never loaded",
            f"{name!r}",
            "Read it with `torch.load(path, weights_only=True)` and save its state_dict with "
            "`safetensors.torch.save_file`.",
        )
    raise InputError(
        f"the {role} must be a local diffusers folder, a {_CHECKPOINT} file, or `{STARTER_NAME}`",
        f"{name!r} ({'a file' if path.exists() else 'no such folder'})",
        "edgekd does not download: save the pipeline with `save_pretrained` first.",
    )


def is_checkpoint(path: Path) -> bool:
    """Whether a path names a file that may be a checkpoint."""
    return path.suffix == _CHECKPOINT and path.is_file()


def _newest_snapshot(path: Path) -> Path:
    """The folder itself, or where it is the Hub's cache of a repository, its newest snapshot."""
    snapshots = path / "snapshots"
    if (path / _INDEX_FILE).is_file() or not snapshots.is_dir():
        return path
    whole = [folder for folder in snapshots.iterdir() if (folder / _INDEX_FILE).is_file()]
    # A copy may have lost the times: then the revision that the cache calls main.
    with contextlib.suppress(InputError):
        main = read_text(path / "refs" / "main").strip()
        whole.sort(key=lambda folder: folder.name == main)
    return max(reversed(whole), key=_time, default=path)


def _time(folder: Path) -> int:
    # Whole seconds: a copy takes less.
    return int((folder / _INDEX_FILE).lstat().st_mtime)


def _imported(path: Path) -> Path:
    state = path.stat()
    return _imported_unchanged(path.absolute(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _imported_unchanged(path: Path, size: int, mtime_ns: int) -> Path:
    """A checkpoint's folder for the life of this process: a verb may ask for it several times."""
    del size, mtime_ns
    from edgekd.processes.scratch import scratch_folder

    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return _import(path, stack.enter_context(scratch_folder()) / path.stem)


def _import(path: Path, folder: Path) -> Path:
    from edgekd.diffusion.single_file.importer import ImportChoices, import_once
    from edgekd.progress import console

    facts = import_once(path, folder, ImportChoices())
    console().info(f"{path.name}: {facts.summary()}")
    return folder
