"""Requests and answers of the API, as OpenAI has them and with this server's additions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_PICTURES = 10
MAX_PROMPT = 4000  # letters
MAX_SEED = 2**53 - 1  # above it, JSON's numbers are not exact in JavaScript
_SIZE = r"(auto|[0-9]{1,5}x[0-9]{1,5})"
_ALIASES = {"seed": ("rng_seed",), "steps": ("num_inference_steps", "step")}

Quality = Literal["auto", "low", "medium", "high", "standard", "hd"]
FileFormat = Literal["png", "jpeg", "webp"]


def _check_size(text: str) -> str:
    if re.fullmatch(_SIZE, text) is None:
        raise PydanticCustomError("size", "must be `auto` or WIDTHxHEIGHT, such as 512x512")
    return text


Size = Annotated[
    str,
    AfterValidator(_check_size),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE}$"}),
]


class ImageRequest(BaseModel):
    """Body of `POST /v1/images/generations`; keys that are not listed are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What to draw.")
    model: str | None = Field(
        None, max_length=256, description="Of `GET /v1/models`; none: the default one."
    )
    n: int | None = Field(None, ge=1, le=MAX_PICTURES, description="Picture i takes seed + i.")
    size: Size | None = Field(
        None, description="`auto` or WIDTHxHEIGHT in pixels, as the model takes it."
    )
    quality: Quality | None = Field(None, description="Accepted; steps decide.")
    background: Literal["auto", "opaque"] | None = Field(None, description="Always opaque.")
    moderation: Literal["auto", "low"] | None = Field(None, description="Accepted.")
    user: str | None = Field(None, max_length=512, description="Accepted.")
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="The picture itself (default), or where it is for one hour."
    )
    output_format: FileFormat | None = Field(None, description="None: png.")
    output_compression: int | None = Field(
        None, ge=0, le=100, description="Quality of JPEG and WebP files."
    )
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    partial_images: int | None = Field(None, ge=0, le=3, description="Previews in a stream.")
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_SEED,
        validation_alias=AliasChoices("seed", *_ALIASES["seed"]),
        description="Draws the same picture again; none: random. Also `rng_seed`.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("steps", *_ALIASES["steps"]),
        description="None: the model's own. Also `num_inference_steps` and `step`.",
    )
    guidance_scale: float | None = Field(None, ge=0, le=1000, description="None: the model's own.")
    negative_prompt: str | None = Field(
        None, max_length=MAX_PROMPT, description="What not to draw."
    )
    sampler: str | None = Field(
        None, max_length=64, description="Such as `ddim`, `euler` or `lcm`; none: the model's own."
    )

    @model_validator(mode="before")
    @classmethod
    def _say_it_once(cls, values: Any) -> Any:
        """Of a field with several names only one may be given: which one counts is not clear."""
        keys = values if isinstance(values, dict) else {}
        for name, others in _ALIASES.items():
            given = [f"`{one}`" for one in (name, *others) if one in keys]
            if len(given) > 1:
                names = {"names": " and ".join(given)}
                raise PydanticCustomError("said_twice", "only one of {names} may be given", names)
        return values


class ImageItem(BaseModel):
    """One picture.

    Attributes:
        seed: that draws it again.
        waited_s: in the queue.
        drawn_s: in a worker, without loading the model and without previews.
    """

    b64_json: str | None = None
    url: str | None = None
    seed: int
    waited_s: float
    drawn_s: float


class ImagesResponse(BaseModel):
    created: int
    model: str
    data: list[ImageItem]
    output_format: FileFormat
    size: str
    quality: Quality
    background: Literal["opaque"] = "opaque"


class PartialEvent(BaseModel):
    """A preview: the picture as it is after some calls of the U-Net.

    Attributes:
        index: of the picture among `n`.
        step, steps: calls of the U-Net that are done, and all.
    """

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    b64_json: str
    partial_image_index: int
    index: int
    step: int
    steps: int
    created_at: int
    output_format: FileFormat
    size: str
    quality: Quality
    background: Literal["opaque"] = "opaque"


class CompletedEvent(BaseModel):
    """A finished picture."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    b64_json: str
    index: int
    model: str
    seed: int
    waited_s: float
    drawn_s: float
    created_at: int
    output_format: FileFormat
    size: str
    quality: Quality
    background: Literal["opaque"] = "opaque"


class ModelCard(BaseModel):
    """A model, and what requests need to know of it.

    Attributes:
        size: of its pictures where a request names none.
        sizes: `fixed`, or `multiple of M`.
        steps, guidance_scale, sampler: where a request names none.
        negative_prompt: whether it takes one.
        max_pixels: of a picture, where other sizes can be asked for.
        max_n: pictures that one request may ask for.
        size_bytes: of its files.
        examples: prompts that it was held against its original with.
        drawn_s: median of the last pictures that this server drew as recommended, at most 32,
            without loading the model and without previews; null: there were none.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "edgekd"
    is_default: bool
    runtime: str
    precision: str
    size: str
    sizes: str
    steps: int
    guidance_scale: float
    sampler: str
    negative_prompt: bool
    max_pixels: int
    max_n: int
    size_bytes: int
    examples: list[str]
    drawn_s: float | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


class Health(BaseModel):
    status: str
