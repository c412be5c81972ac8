"""Any CLIP in a local folder: transformers' form, or open_clip's where that package is installed.

Shapes: N images or captions; embeddings [N,D], rows of length 1.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekd.errors import InputError
from edgekd.metrics.caption_fit import normalise, side_by_side
from edgekd.metrics.extractors.weights import SHORT, hash_weights
from edgekd.metrics.metric import Extraction, Floats, Images, Weights
from edgekd.reading import read_json

OPTION = "--clip"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
BATCH = 16
# PIL's numbers of resampling filters, as preprocessor configurations hold them.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


class Towers(Protocol):
    """A loaded CLIP; both return tensors [B,D]."""

    def embed_images(self, images: Sequence[Any]) -> Any:
        """Of uint8 images [H,W,3]."""

    def embed_texts(self, captions: Sequence[str]) -> Any:
        """Each cut to the encoder's length."""


class TransformersTowers:
    """A `CLIPModel` with its tokenizer and image processor, as transformers saves them.

    Raises:
        InputError: it does not load, or tensors are missing.
    """

    def __init__(self, folder: Path) -> None:
        from edgekd.libraries import transformers

        local = {"local_files_only": True}
        try:
            self._model, info = transformers.CLIPModel.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **local
            )
            self._tokenizer = transformers.CLIPTokenizerFast.from_pretrained(folder, **local)
            self._processor = transformers.CLIPImageProcessor.from_pretrained(folder, **local)
        except (OSError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())
            raise InputError("a CLIP folder must load in transformers", said) from None
        wrong = [*info["missing_keys"], *info["mismatched_keys"]]
        if wrong:
            raise InputError(
                "the weights must hold every tensor of the model", f"without {wrong[0]}"
            )
        self._model.eval()
        self._length = int(self._model.config.text_config.max_position_embeddings)

    def embed_images(self, images: Sequence[Any]) -> Any:
        pixels = self._processor(
            images=list(images), return_tensors="pt", input_data_format="channels_last"
        )
        return self._model.get_image_features(**pixels)

    def embed_texts(self, captions: Sequence[str]) -> Any:
        tokens = self._tokenizer(
            list(captions),
            padding=True,
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        return self._model.get_text_features(**tokens)


class OpenClipTowers:
    """A folder of `open_clip_config.json` and `open_clip_model.safetensors`."""

    def __init__(self, folder: Path) -> None:
        import edgekd.libraries  # noqa: F401, torchvision may only be imported after it

        open_clip = importlib.import_module("open_clip")
        name = f"local-dir:{folder}"
        self._model, self._transform = open_clip.create_model_from_pretrained(name)
        self._tokenizer = open_clip.get_tokenizer(name)
        self._model.eval()

    def embed_images(self, images: Sequence[Any]) -> Any:
        import torch
        from PIL import Image

        pixels = [self._transform(Image.fromarray(image)) for image in images]
        return self._model.encode_image(torch.stack(pixels))

    def embed_texts(self, captions: Sequence[str]) -> Any:
        return self._model.encode_text(self._tokenizer(list(captions)))


class ClipExtractor:
    """Image and caption embeddings side by side, [N,2D]; see `caption_fit.halves`.

    Pictures are prepared as the checkpoint says.

    Raises:
        InputError: the folder is no CLIP's, or open_clip is missing for one of its; when first
            called: it does not load.
    """

    def __init__(self, folder: Path, batch_size: int = BATCH) -> None:
        self._batch_size = batch_size
        prepared, self._load = _form(folder)
        self.key = hash_weights(folder, OPTION)
        self.name = f"clip-{prepared}-{self.key[:SHORT]}"

    @cached_property
    def towers(self) -> Towers:
        return self._load()

    def __call__(self, images: Images, captions: Sequence[str]) -> Floats:
        """Rows [N,2D] of uint8 images with their captions."""
        return side_by_side(
            self._batches(self.towers.embed_images, images),
            self._batches(self.towers.embed_texts, captions),
        )

    def _batches(self, embed: Callable[[Any], Any], items: Sequence[Any] | Images) -> Floats:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(items), self._batch_size):
                rows.append(embed(items[start : start + self._batch_size]).float().numpy())
        return normalise(np.concatenate(rows))


def _form(folder: Path) -> tuple[str, Callable[[], Towers]]:
    """How a folder's pictures are resized, and what loads it."""
    if (folder / OPEN_CLIP_CONFIG).is_file() and not (folder / "config.json").is_file():
        return _open_clip_form(folder)
    for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
        if not (folder / file).is_file():
            raise InputError("a CLIP folder must hold " + file, str(folder))
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise InputError("the folder must hold a CLIPModel (`model_type` clip)", repr(kind))
    settings = read_json(folder / "preprocessor_config.json")
    size = settings.get("size", {})
    side = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
    resample = _FILTERS.get(settings.get("resample", 3), "resized")
    return f"{resample}{side}", lambda: TransformersTowers(folder)


def _open_clip_form(folder: Path) -> tuple[str, Callable[[], Towers]]:
    if not (folder / OPEN_CLIP_WEIGHTS).is_file():
        raise InputError("a folder of open_clip must hold " + OPEN_CLIP_WEIGHTS, str(folder))
    if importlib.util.find_spec("open_clip") is None:
        raise InputError(
            f"`{OPTION}` needs the package open_clip for a folder with {OPEN_CLIP_CONFIG}",
            "no module named `open_clip`",
            "Install it: pip install open-clip-torch; or give the model's transformers folder.",
        )
    config = read_json(folder / OPEN_CLIP_CONFIG)
    prepared = config.get("preprocess_cfg", {})
    side = config.get("model_cfg", {}).get("vision_cfg", {}).get("image_size", 224)
    return f"{prepared.get('interpolation', 'bicubic')}{side}", lambda: OpenClipTowers(folder)


def _open(weights: Weights) -> ClipExtractor | None:
    return None if weights.clip is None else ClipExtractor(weights.clip)


CLIP = Extraction("clip", _open)
