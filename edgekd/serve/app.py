"""The routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.types import Scope

from edgekd import __version__
from edgekd.serve.answers import ClientGoneError, EventStream, collect, images_response
from edgekd.serve.catalog import Catalog, ServedModel
from edgekd.serve.dispatcher import Dispatcher, Picture
from edgekd.serve.drawing import plan, recommended
from edgekd.serve.encode import MEDIA_TYPES
from edgekd.serve.errors import add_error_answers
from edgekd.serve.figures import CONTENT_TYPE, Figures
from edgekd.serve.guard import Body
from edgekd.serve.kept import KeptPictures
from edgekd.serve.page import add_page
from edgekd.serve.problems import Problem
from edgekd.serve.schema import (
    MAX_PICTURES,
    ErrorBody,
    Health,
    ImageRequest,
    ImagesResponse,
    ModelCard,
    ModelList,
)
from edgekd.serve.settings import ServeSettings

_Responses = dict[int | str, dict[str, Any]]  # as FastAPI wants them
_ERRORS: _Responses = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
_EVENTS: _Responses = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@dataclass(frozen=True)
class Service:
    """What the routes use."""

    settings: ServeSettings
    catalog: Catalog
    dispatcher: Dispatcher
    figures: Figures


def create_app(service: Service) -> FastAPI:
    """The API. Interactive pages of FastAPI's load scripts from elsewhere: they are left out."""
    app = FastAPI(
        title="edgekd",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # where to, the request's own `Host` would say
        responses=_ERRORS,
    )
    add_error_answers(app, service.figures.count_error)
    _add_images(app, service)
    _add_models(app, service)
    _add_operations(app, service)
    add_page(app)
    return app


def expected_body(scope: Scope) -> Body:
    """What a request may send.

    Raises:
        Problem: OpenAI's other routes of pictures, whose bodies are forms, are not here.
    """
    if scope["path"] in ("/v1/images/edits", "/v1/images/variations"):
        message = "this server draws from prompts alone: it has no edits and no variations"
        raise Problem(404, message, "not_found")
    return Body()


def _add_images(app: FastAPI, service: Service) -> None:
    kept = KeptPictures()
    limits, log_prompts = service.settings.limits, service.settings.privacy.log_prompts
    most = _most_pictures(service)

    @app.post("/v1/images/generations", response_model=ImagesResponse, responses=_EVENTS)
    async def generate(body: ImageRequest, request: Request) -> Any:
        """Draw pictures. With `stream`, server-sent events `image_generation.partial_image` and
        `image_generation.completed`."""
        drawing = plan(body, service.catalog, most)
        first = drawing.drawings[0]
        fields = {"model": first.model, "n": len(drawing.drawings), "steps": first.steps}
        if log_prompts:
            fields["prompt"] = first.prompt
        request.state.fields = fields
        if drawing.streams:
            return EventStream(drawing, service.dispatcher, limits.timeout_s).response()

        def address(picture: Picture) -> str:
            name = kept.put(picture.content, MEDIA_TYPES[drawing.file_format])
            return str(request.url_for("picture", name=name))

        try:
            pictures = await collect(request, drawing, service.dispatcher, limits.timeout_s)
        except ClientGoneError:
            return Response(status_code=499)  # nobody reads it
        answer = images_response(drawing, pictures, address)
        # Checked already, and large.
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @app.get(
        "/pictures/{name}",
        response_class=Response,
        responses={200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}},
    )
    async def picture(name: str) -> Response:
        """A picture that a request asked for by `response_format: url`, for one hour."""
        found = kept.get(name)
        if found is None:
            raise Problem(404, "there is no such picture, or not any more", "not_found")
        return Response(found.content, media_type=found.media_type)


def _most_pictures(service: Service) -> int:
    """Of one request: it is accepted whole, or not at all."""
    return min(MAX_PICTURES, service.settings.limits.queue)


def _add_models(app: FastAPI, service: Service) -> None:
    catalog, most = service.catalog, _most_pictures(service)

    def card(model: ServedModel) -> ModelCard:
        drawn_s = service.figures.recent.median(recommended(model))
        return _card(model, model is catalog.default, most, drawn_s)

    @app.get("/v1/models")
    async def models() -> ModelList:
        """All models of this server."""
        return ModelList(data=[card(model) for model in catalog.models.values()])

    @app.get("/v1/models/{model}")
    async def one_model(model: str) -> ModelCard:
        """One model; names of OpenAI's models give the default."""
        return card(catalog.find(model))


def _card(model: ServedModel, is_default: bool, max_n: int, drawn_s: float | None) -> ModelCard:
    folder = model.folder
    height, width = folder.shapes.native
    return ModelCard(
        id=model.name,
        created=model.created,
        is_default=is_default,
        runtime=folder.runtime,
        precision=folder.precision,
        size=f"{width}x{height}",
        sizes=f"multiple of {folder.shapes.multiple}" if folder.shapes.dynamic else "fixed",
        steps=folder.steps,
        guidance_scale=folder.guidance_scale,
        sampler=folder.scheduler.name,
        negative_prompt=folder.guidance_width is None,
        max_pixels=model.largest,
        max_n=max_n,
        size_bytes=model.size_bytes,
        examples=list(model.examples),
        drawn_s=None if drawn_s is None else round(drawn_s, 4),
    )


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> Health:
        """The server runs."""
        return Health(status="ok")

    @app.get("/readyz")
    async def readyz() -> Health:
        """A worker is ready to draw."""
        if not service.dispatcher.is_ready:
            raise Problem(503, "no worker is ready", "not_ready", retry_after=1)
        return Health(status="ready")

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.figures.text(), headers={"Content-Type": CONTENT_TYPE})
