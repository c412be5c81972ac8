"""Pictures as files, with what they were drawn from."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from edgekd import __version__
from edgekd.runtime.png import encode_png
from edgekd.serve.messages import Drawing

KEYWORD = "parameters"
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def file_formats() -> tuple[str, ...]:
    """Formats that this installation writes; all but PNG need Pillow."""
    return tuple(MEDIA_TYPES) if find_spec("PIL") else ("png",)


def encode(
    picture: npt.NDArray[np.uint8], drawing: Drawing, texts: dict[str, str] | None = None
) -> bytes:
    """File of a picture [H,W,3] in the drawing's format; `texts` go into PNG files."""
    if drawing.file_format == "png":
        return encode_png(picture, texts)
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, drawing.file_format, quality=drawing.quality)
    return out.getvalue()


def parameters(drawing: Drawing, sampler: str, embed_prompt: bool) -> dict[str, str]:
    """What draws the same picture again, for its PNG file: one JSON object.

    The prompt is not in it unless asked for: pictures are passed on by people who may not want to
    pass on what they wrote.
    """
    values: dict[str, str | int | float | None] = {
        "edgekd": __version__,
        "model": drawing.model,
        "seed": drawing.seed,
        "steps": drawing.steps,
        "guidance_scale": drawing.guidance_scale,
        "sampler": sampler,
        "size": f"{drawing.width}x{drawing.height}",
    }
    if embed_prompt:
        values |= {"prompt": drawing.prompt, "negative_prompt": drawing.negative_prompt}
    return {KEYWORD: json.dumps(values)}  # ASCII, which a PNG's text must nearly be
