"""Image features for FD, KID and embeddings: EfficientNet-Lite0 in onnxruntime.

Images are resized to 128x128 with Pillow's bilinear filter (antialiased when it reduces) on 8-bit
pixels, one by one; all other preprocessing is inside the ONNX file. Nothing depends on the batch
an image is in.

Shapes: N images of any size HxW; pooled features [N,1280]; level means [N,512].
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekd.errors import InputError
from edgekd.resources import STARTER

FEATURES_ONNX = STARTER / "scorers" / "features.onnx.xz"

FloatArray = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Features(NamedTuple):
    """`pooled`: [N,1280] for FD and KID; `levels`: [N,512], means of the trunk's five levels."""

    pooled: FloatArray
    levels: FloatArray


def check_images(images: Sequence[Pixels] | Pixels) -> None:
    """Raise InputError unless these are one or more uint8 images [H,W,3]."""
    if len(images) == 0:
        raise InputError("there must be at least one image", "none")
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                "images must be uint8 of shape [H,W,3]", f"{image.dtype} {list(image.shape)}"
            )


def resize(image: Pixels, size: int) -> Pixels:
    """A [H,W,3] image stretched to [size,size,3]."""
    if image.shape[:2] == (size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def read_model(path: Path) -> bytes:
    """An ONNX file, unpacked where its name ends in `.xz`.

    Raises:
        InputError: the file does not exist, or is damaged.
    """
    if not path.is_file():
        raise InputError("the model file must exist", str(path))
    content = path.read_bytes()
    if path.suffix != ".xz":
        return content
    try:
        return lzma.decompress(content)
    except lzma.LZMAError as error:
        raise InputError("the model file must be whole", f"{path} ({error})") from None


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime CPU session; `threads=0` leaves the number to the runtime.

    Raises:
        InputError: see `read_model`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        read_model(path), options, providers=["CPUExecutionProvider"]
    )


class FeatureExtractor:
    """Pooled ImageNet features of images.

    Args:
        path: ONNX file made by `tools.starter.convert_features`.
        batch_size: images per call of the runtime; changes speed and memory only.
        threads: of the runtime; 0 leaves the number to it.

    Attributes:
        name: the extractor and its resize, part of every metric's name.
    """

    def __init__(
        self, path: Path = FEATURES_ONNX, *, batch_size: int = 16, threads: int = 0
    ) -> None:
        self._session = open_session(path, threads)
        self._batch_size = batch_size
        self.size = int(self._session.get_inputs()[0].shape[1])
        self.dimensions = int(self._session.get_outputs()[0].shape[1])
        self.name = f"efficientnet_lite0-bilinear{self.size}"

    def __call__(self, images: Sequence[Pixels] | Pixels) -> FloatArray:
        """Features float32 [N,1280] of uint8 images: an array [N,H,W,3] or a list of [H,W,3].

        Raises:
            InputError: no image, or images of another type or shape.
        """
        return self.extract(images).pooled

    def extract(self, images: Sequence[Pixels] | Pixels) -> Features:
        """Pooled features and level means; arguments and errors as in `__call__`."""
        check_images(images)
        pooled, levels = [], []
        for start in range(0, len(images), self._batch_size):
            batch = [resize(image, self.size) for image in images[start : start + self._batch_size]]
            outputs = self._session.run(["features", "levels"], {"images": np.stack(batch)})
            pooled.append(outputs[0])
            levels.append(outputs[1])
        return Features(np.concatenate(pooled), np.concatenate(levels))
