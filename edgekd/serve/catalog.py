"""The models of a server, by name, and what requests may ask of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgekd.errors import InputError
from edgekd.file_record import check_given
from edgekd.reading import Fields
from edgekd.runtime.folder import ExportedFolder, read_folder
from edgekd.runtime.sampler_names import sampler_class
from edgekd.runtime.samplers import make_sampler
from edgekd.serve import problems
from edgekd.serve.limits import Limits
from edgekd.serve.loaded import model_bytes
from edgekd.serve.messages import Drawing
from edgekd.serve.settings import ServeSettings

# Names of OpenAI's models, which clients send when nobody told them otherwise.
_OPENAI = re.compile(r"(gpt-image-|chatgpt-image-|dall-e-).*")
_EXAMPLES, _LONGEST_EXAMPLE = 6, 120  # prompts that the page offers, letters of each


@dataclass(frozen=True)
class ServedModel:
    """One model.

    Attributes:
        created: when it was exported, in seconds since 1970.
        largest: pixels of the largest picture.
        size_bytes: of its files.
        examples: prompts that it was held against its original with.
    """

    name: str
    folder: ExportedFolder
    created: int
    largest: int
    size_bytes: int
    examples: tuple[str, ...]

    def size(self, text: str) -> tuple[int, int]:
        """Height and width of `auto` or `WIDTHxHEIGHT`.

        Raises:
            Problem: pictures of this model cannot have that size.
        """
        if text == "auto":
            return self.folder.shapes.native
        width, height = map(int, text.split("x"))
        try:
            self.folder.shapes.check((height, width))
        except InputError as error:
            raise problems.invalid(str(error), "size") from None
        if width * height > self.largest:
            raise problems.invalid(f"pictures must have at most {self.largest} pixels", "size")
        return height, width

    def check(self, drawing: Drawing) -> None:
        """Everything that depends on the model, before its pictures wait for a worker.

        Raises:
            Problem: the model cannot draw this.
        """
        folder = self.folder
        if drawing.negative_prompt and folder.guidance_width is not None:
            message = "a guidance-distilled model takes no negative prompt"
            raise problems.invalid(message, "negative_prompt")
        try:
            if drawing.sampler is not None:
                folder = read_folder(folder.path, drawing.sampler)
        except InputError as error:
            raise problems.invalid(str(error), "sampler") from None
        try:
            make_sampler(folder.scheduler, drawing.steps)
        except InputError as error:
            raise problems.invalid(str(error), "steps") from None


class Catalog:
    """All models of a server; the first is the default."""

    def __init__(self, settings: ServeSettings) -> None:
        """Read their folders.

        Raises:
            InputError: a folder is no export, is damaged, or larger than a worker's memory may be.
        """
        self.models = {
            name: _served(name, path, settings.limits) for name, path in settings.models.items()
        }
        self.default = next(iter(self.models.values()))

    def find(self, name: str | None) -> ServedModel:
        """A model by its name; without one, and by names of OpenAI's models, the default.

        Raises:
            Problem: no model has this name.
        """
        if name in self.models:
            return self.models[name]
        if not name or _OPENAI.fullmatch(name):
            return self.default
        known = ", ".join(self.models)
        message = f"there is no such model; this server has {known}"
        raise problems.Problem(404, message, "model_not_found", "model")


def known_sampler(name: str | None) -> str | None:
    """diffusers' class of a sampler.

    Raises:
        Problem: another name.
    """
    if name is None:
        return None
    try:
        return sampler_class(name)
    except InputError as error:
        raise problems.invalid(error.rule, "sampler") from None


def _served(name: str, path: Path, limits: Limits) -> ServedModel:
    folder = read_folder(path)
    check_given(path)
    size = model_bytes(path)
    if limits.memory_bytes is not None and size > limits.memory_bytes:
        raise InputError(
            "the memory limit must be above the size of each model",
            f"{limits.memory_bytes} bytes, and {size} of `{name}`",
        )
    native = folder.shapes.native[0] * folder.shapes.native[1]
    created = int((path / "manifest.json").stat().st_mtime)
    return ServedModel(
        name, folder, created, max(limits.pixels, native), size, _examples(path / "manifest.json")
    )


def _examples(manifest: Path) -> tuple[str, ...]:
    fields = Fields.read(manifest)
    prompts = fields.inner("pictures").values.get("prompts") if fields.has("pictures") else None
    texts = prompts if isinstance(prompts, list) else []
    short = [one for one in texts if isinstance(one, str) and 0 < len(one) <= _LONGEST_EXAMPLE]
    return tuple(dict.fromkeys(short))[:_EXAMPLES]
