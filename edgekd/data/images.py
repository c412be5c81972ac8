"""From the bytes of an image file to pixels: verify, orient, flatten, resize, crop.

Shapes: images are Pillow images in mode RGB, arrays `uint8 [H, W, 3]`, tensors
`float32 [3, H, W]` in [-1, 1].
"""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageColor, ImageOps

from edgekd.errors import InputError

if TYPE_CHECKING:
    import torch

Color = tuple[int, int, int]

# Formats that Pillow decodes by itself. Others (EPS, for one) start foreign programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
_HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
ALPHA_MODES = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_WIDE_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")

# What Pillow's decoders raise on damaged files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


class BadImageError(Exception):
    """The bytes are not a usable image; the message is one of a few short reasons."""


def parse_background(name: str) -> Color:
    """An opaque colour from a name or a `#rrggbb` code.

    Raises:
        InputError: Pillow does not know it, or it is not opaque.
    """
    problem = InputError(
        "`background` must be an opaque colour", repr(name), "Try `white` or `#808080`."
    )
    try:
        color = ImageColor.getrgb(name)
    except ValueError:
        raise problem from None
    if len(color) != 3:
        raise problem
    return color


@functools.cache
def _formats() -> tuple[str, ...]:
    """The wanted formats that this Pillow was built with, or that its plugins add."""
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that can be read, in small letters."""
    formats = _formats()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in formats)


def unread_format(suffix: str) -> str:
    """Why files of a suffix are not read."""
    return unread_image(suffix) or f"not read: {suffix.lower() or 'no suffix'}"


def unread_image(name: str) -> str:
    """Why an image of a known format is not read, or ""."""
    suffix = name[name.rfind(".") :].lower()
    is_read = suffix not in _HEIF_SUFFIXES or suffix in image_suffixes()
    return "" if is_read else "HEIC, which takes `pip install 'edgekd[heif]'`"


def open_image(image_bytes: bytes, max_pixels: int) -> Image.Image:
    """Read an image's header, without decoding its pixels.

    Raises:
        BadImageError: not an image of a known format, or more than `max_pixels` pixels.
    """
    if not image_bytes:
        raise BadImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(image_bytes), formats=_formats())
    except Image.DecompressionBombError:
        raise BadImageError("too many pixels") from None
    except _DECODER_ERRORS:
        raise BadImageError("not an image") from None
    if image.width * image.height > max_pixels:
        raise BadImageError("too many pixels")
    return image


def to_rgb(image: Image.Image, background: Color) -> Image.Image:
    """Decode an opened image to upright RGB; transparent pixels show the background.

    Of an animation the first frame is taken. 16-bit grey keeps its upper 8 bits.

    Raises:
        BadImageError: the pixels are truncated or damaged, or of a mode with no RGB meaning.
    """
    return _upright(image, lambda upright: _flatten(upright, background))


def to_rgba(image: Image.Image) -> Image.Image:
    """Decode an opened image to upright RGBA; one without alpha comes out opaque.

    Raises:
        BadImageError: as `to_rgb`.
    """

    def convert(upright: Image.Image) -> Image.Image:
        if _has_alpha(upright):
            return upright.convert("RGBA")
        return _flatten(upright, (255, 255, 255)).convert("RGBA")

    return _upright(image, convert)


def _upright(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Decode, turn as the metadata say, and convert."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
            image.load()
            return convert(ImageOps.exif_transpose(image))
    except _DECODER_ERRORS as error:
        raise BadImageError("truncated" if "truncated" in str(error) else "damaged") from None


def _has_alpha(image: Image.Image) -> bool:
    marked = "transparency" in image.info and image.mode not in _WIDE_GREY
    return image.mode in ALPHA_MODES or marked


def _flatten(image: Image.Image, background: Color) -> Image.Image:
    if image.mode in _WIDE_GREY:
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BadImageError("float pixels")
    if _has_alpha(image):
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def decode(image_bytes: bytes, background: Color, max_pixels: int) -> Image.Image:
    """`open_image` and `to_rgb` in one.

    Raises:
        BadImageError: see there.
    """
    return to_rgb(open_image(image_bytes, max_pixels), background)


def resize_and_crop(
    image: Image.Image, size: tuple[int, int], position: tuple[float, float] = (0.5, 0.5)
) -> tuple[Image.Image, tuple[int, int]]:
    """Scale until the image covers a size, and cut that out of it.

    Lanczos with antialiasing: Pillow widens the filter by the scale.

    Args:
        image: RGB.
        size: (height, width) of the result in pixels.
        position: where the result lies along y and x, 0 to 1; 0.5 is the centre.

    Returns:
        The cut image, and its (top, left) in pixels of the scaled image.
    """
    scale = max(size[0] / image.height, size[1] / image.width)
    height, width = (
        max(wanted, round(side * scale))
        for wanted, side in zip(size, (image.height, image.width), strict=True)
    )
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    top = round(position[0] * (height - size[0]))
    left = round(position[1] * (width - size[1]))
    return image.crop((left, top, left + size[1], top + size[0])), (top, left)


def to_tensor(image: Image.Image | np.ndarray[Any, Any]) -> torch.Tensor:
    """RGB pixels (image or `uint8 [..., H, W, 3]`) to `float32 [..., 3, H, W]` in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(image, dtype=np.float32)) / 127.5 - 1.0
    return pixels.movedim(-1, -3).contiguous()
