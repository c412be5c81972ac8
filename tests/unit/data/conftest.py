"""Small captioned images of several kinds."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def _picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A smooth random picture of (width, height); different seeds are no near duplicates."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _fill_folder(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed:04d}.png").write_bytes(_encode(_picture(seed)))
        (folder / f"{seed:04d}.txt").write_text(f"picture number {seed}\n")
    return folder


def _write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="session")
def write_tar() -> Callable[..., Path]:
    return _write_tar


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    return _picture


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return _encode


@pytest.fixture(scope="session")
def fill_folder() -> Callable[..., Path]:
    return _fill_folder
