"""Files as found to RGB, squares and tensors."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from edgekd.data.images import (
    BadImageError,
    decode,
    open_image,
    parse_background,
    resize_and_crop,
    to_rgba,
    to_tensor,
)
from edgekd.errors import InputError

GREEN = (0, 255, 0)
LIMIT = 10_000


def pixel(content: bytes) -> tuple[int, ...]:
    image = decode(content, GREEN, LIMIT)
    assert image.mode == "RGB"
    value = image.getpixel((0, 0))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("name", ["white", "#336699", "rgb(1, 2, 3)"])
def test_background_names(name):
    assert len(parse_background(name)) == 3


@pytest.mark.parametrize("name", ["reddish", "#ffffff80", ""])
def test_unusable_background(name):
    with pytest.raises(InputError, match="opaque colour"):
        parse_background(name)


@pytest.mark.parametrize(
    ("mode", "color", "options", "kept", "shown"),
    [
        ("RGBA", (200, 0, 0, 0), {}, (200, 0, 0, 0), GREEN),
        ("RGBA", (200, 0, 0, 255), {}, (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (200, 0, 0, 51), {}, (200, 0, 0, 51), (40, 204, 0)),
        ("LA", (90, 0), {}, (90, 90, 90, 0), GREEN),
        ("LA", (90, 255), {}, (90, 90, 90, 255), (90, 90, 90)),
        ("LA", (90, 51), {}, (90, 90, 90, 51), (18, 222, 18)),
        ("P", 0, {"transparency": 0}, (0, 0, 0, 0), GREEN),
        ("P", 1, {"transparency": 0}, (40, 50, 60, 255), (40, 50, 60)),
        ("RGB", (1, 2, 3), {"transparency": (1, 2, 3)}, (1, 2, 3, 0), GREEN),
        ("RGB", (1, 2, 3), {}, (1, 2, 3, 255), (1, 2, 3)),
        ("1", 1, {}, (255,) * 4, (255,) * 3),
        ("L", 77, {}, (77, 77, 77, 255), (77, 77, 77)),
        # Sixteen bits are scaled, not clipped.
        ("I;16", 0x4D00, {}, (0x4D, 0x4D, 0x4D, 255), (0x4D, 0x4D, 0x4D)),
    ],
)
def test_alpha_is_kept_or_shows_the_background(mode, color, options, kept, shown, encode):
    image = Image.new(mode, (8, 8), color)
    if mode == "P":
        image.putpalette([0, 0, 0, 40, 50, 60])
    content = encode(image, **options)
    found = to_rgba(open_image(content, LIMIT))
    assert (found.mode, found.getpixel((0, 0))) == ("RGBA", kept)
    assert pixel(content) == shown


def test_cmyk(encode):
    red, green, blue = pixel(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert red > 200
    assert max(green, blue) < 60


def test_exif_orientation_is_applied(encode, picture):
    upright = picture(0, (30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn by 90 degrees clockwise
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    content = encode(turned, exif=exif)
    found = decode(content, GREEN, LIMIT)
    assert np.array_equal(np.asarray(found), np.asarray(upright))
    with_alpha = to_rgba(open_image(content, LIMIT))
    assert np.array_equal(np.asarray(with_alpha)[..., :3], np.asarray(upright))


def test_animation_gives_its_first_frame(encode):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(content) == (255, 0, 0)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_truncated(format, encode, picture):
    content = encode(picture(1, (90, 90)), format)
    with pytest.raises(BadImageError):
        decode(content[: len(content) * 2 // 3], GREEN, LIMIT)


def test_truncated_jpeg_is_seen_in_a_reduced_decode_too(encode, picture):
    content = encode(picture(1, (640, 640)), "JPEG")
    image = open_image(content[: len(content) // 2], 10**6)
    image.draft(None, (64, 64))
    with pytest.raises(OSError, match="truncated"):
        image.load()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than its few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [101, 10_000, 60_000])
@pytest.mark.filterwarnings("error")
def test_too_many_pixels_are_never_decoded(side):
    with pytest.raises(BadImageError, match="too many pixels"):
        decode(bomb(side, side), GREEN, LIMIT)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"],
)
def test_not_an_image(content):
    with pytest.raises(BadImageError):
        decode(content, GREEN, LIMIT)


def test_float_pixels_have_no_rgb_meaning(encode):
    with pytest.raises(BadImageError, match="float"):
        decode(encode(Image.new("F", (8, 8), 0.5), "TIFF"), GREEN, LIMIT)


def test_resize_averages_what_it_drops():
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    small, _ = resize_and_crop(Image.fromarray(board).convert("RGB"), (32, 32))
    inner = np.asarray(small)[4:-4, 4:-4].astype(int)
    assert np.abs(inner - 127.5).max() < 4


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (64, 64), (33, 17)])
def test_square_of_the_resolution(size, picture):
    square, (top, left) = resize_and_crop(picture(2, size), (32, 32), (1.0, 1.0))
    assert square.size == (32, 32)
    scale = 32 / min(size)
    assert (left, top) == (round(size[0] * scale) - 32, round(size[1] * scale) - 32)


def test_a_size_that_is_no_square(picture):
    cut, corner = resize_and_crop(picture(4, (100, 50)), (24, 40), (0.5, 1.0))
    # Scaled by 24 / 50 to 48 x 24, of which the right 40 are taken.
    assert (cut.size, corner) == ((40, 24), (0, 8))


def test_crop_position_selects_the_side(encode):
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste("blue", (32, 0, 64, 32))
    for x, color in ((0.0, (255, 0, 0)), (1.0, (0, 0, 255))):
        square, _ = resize_and_crop(wide, (32, 32), (0.5, x))
        assert square.getpixel((16, 16)) == color


def test_an_image_of_the_right_size_is_left_alone(picture):
    image = picture(3, (32, 32))
    square, corner = resize_and_crop(image, (32, 32))
    assert corner == (0, 0)
    assert np.array_equal(np.asarray(square), np.asarray(image))


def test_tensor_range_and_layout():
    image = np.zeros((2, 4, 5, 3), np.uint8)
    image[..., 1] = 255
    tensor = to_tensor(image)
    assert tensor.shape == (2, 3, 4, 5)
    assert tensor[:, 0].unique().tolist() == [-1.0]
    assert tensor[:, 1].unique().tolist() == [1.0]
    stream = io.BytesIO()
    Image.fromarray(image[0]).save(stream, "PNG")
    assert (to_tensor(Image.open(stream)) == tensor[0]).all()
