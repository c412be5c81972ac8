"""From a request to the pictures that it asks for."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from edgekd.serve import problems
from edgekd.serve.catalog import Catalog, ServedModel, known_sampler
from edgekd.serve.encode import file_formats
from edgekd.serve.messages import Drawing
from edgekd.serve.schema import MAX_SEED, FileFormat, ImageRequest, Quality

_DEFAULT_COMPRESSION = 100


@dataclass(frozen=True)
class DrawingRequest:
    """A request, checked, with every default filled in.

    Attributes:
        drawings: one for each picture; picture i takes the seed + i.
    """

    model: ServedModel
    drawings: tuple[Drawing, ...]
    file_format: FileFormat
    quality: Quality
    streams: bool
    as_url: bool

    @property
    def size(self) -> str:
        return f"{self.drawings[0].width}x{self.drawings[0].height}"


def plan(request: ImageRequest, catalog: Catalog, most: int) -> DrawingRequest:
    """Check a request against its model.

    Args:
        most: pictures that one request may ask for.

    Raises:
        Problem: it cannot be drawn.
    """
    model = catalog.find(request.model)
    count = request.n or 1
    if count > most:
        raise problems.invalid(f"`n` must be at most {most} on this server", "n")
    file_format = request.output_format or "png"
    if file_format not in file_formats():
        message = "this server writes png alone; pillow is not installed"
        raise problems.invalid(message, "output_format")
    streams = bool(request.stream)
    drawing = _first(request, model, file_format, request.partial_images or 0 if streams else 0)
    model.check(drawing)
    if drawing.seed + count - 1 > MAX_SEED:
        raise problems.invalid(f"`seed + n - 1` must be at most {MAX_SEED}", "seed")
    return DrawingRequest(
        model=model,
        drawings=tuple(replace(drawing, seed=drawing.seed + index) for index in range(count)),
        file_format=file_format,
        quality=request.quality or "auto",
        streams=streams,
        as_url=request.response_format == "url" and not streams,
    )


def recommended(model: ServedModel) -> Drawing:
    """A picture of the model as its maker recommends."""
    return _first(ImageRequest(prompt="any"), model, "png", 0)


def _first(
    request: ImageRequest, model: ServedModel, file_format: FileFormat, previews: int
) -> Drawing:
    folder = model.folder
    height, width = model.size(request.size or "auto")
    scale = request.guidance_scale
    compression = request.output_compression
    return Drawing(
        model=model.name,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        # 32 bits decide the noise.
        seed=secrets.randbelow(1 << 32) if request.seed is None else request.seed,
        steps=request.steps or folder.steps,
        guidance_scale=folder.guidance_scale if scale is None else scale,
        sampler=known_sampler(request.sampler),
        height=height,
        width=width,
        file_format=file_format,
        quality=_DEFAULT_COMPRESSION if compression is None else compression,
        previews=previews,
    )
